"""The demo from beginning to end, in one readable function."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from demo.errors import DemoStopped
from demo.figures import Found
from demo.history import Story, handbook, simulated
from demo.interrupt import stop_if_asked, uninterrupted
from demo.learning import (
    WEEK_MS,
    Compared,
    begin_apply,
    compare_with_baseline,
    compiled_plan,
    feature_environment,
    materialize,
    open_feature_store,
    train,
)
from demo.live import Cloud, Live, drain, live_processes, play
from demo.memory import MemoryWatch
from demo.places import Places
from demo.processes import aws_endpoint, stop, valkey, wait_for_http
from demo.proof import applied_rows, certify, compare_at_rest, event_freshness, join_the_lake
from demo.replay import Answers, transactions_of
from demo.screen import Screen, Step
from demo.showing import curl_line, fraud_types, hour_shape, outcomes_by_type, worth_showing
from demo.traffic import SteadyTraffic
from fraud.features import CROSS_FEATURES, VELOCITY
from fraud.record import records_of
from fraud.transaction import Transaction
from fraud.windows import HOUR
from monitoring.decision_log import read_decisions
from monitoring.parity import Parity
from retraining.limits import LIMITS, GateLimits
from retraining.registry import Registry
from retraining.weekly import Builder, WeekReport
from training.dataset import TrainingSet, build_training_set
from training.dataset_files import proven
from training.dataset_request import DatasetRequest
from training.labels import read_labels, settle_labels
from training.profiles import write_profiles

SWAP_WITHIN_S: Final = 60.0
"""The scorer looks for a new bundle every second, and opens and warms it before it serves it."""


@dataclass(frozen=True)
class Options:
    """What a person asked for: data set, size and seed of the world, the benchmark's file, seconds of the replay."""

    data: str
    size: str
    seed: int
    source: Path
    replay_seconds: float


@dataclass(frozen=True)
class Stage:
    """What every part of the story needs: what stops the processes, where to show and keep, what was asked for."""

    stack: ExitStack
    screen: Screen
    places: Places
    options: Options
    clock: "Clock"
    memory: MemoryWatch

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Show a step and note what it took."""
        stop_if_asked()
        since = time.perf_counter()
        with self.screen.step(name) as step:
            yield step
        stop_if_asked()
        self.clock.mark(name, since)


@dataclass(frozen=True)
class Learned:
    """After the training: the rows, the registry with its first champion, and how it compares."""

    rows: TrainingSet
    registry: Registry
    read_plan: dict[str, Any]
    limits: GateLimits
    first: WeekReport
    compared: Compared


def play_story(
    stack: ExitStack, screen: Screen, places: Places, options: Options, *, started: float
) -> tuple[Found, str]:
    """Run every part; return what was found and a command that asks the scorer; ``stack`` stops the processes."""
    stage = Stage(stack, screen, places, options, Clock(), stack.enter_context(MemoryWatch()))
    endpoint, address = stack.enter_context(aws_endpoint(places))
    with uninterrupted():
        redis_port = stack.enter_context(valkey())
    story, store = _prepare(stage, redis_port)
    learned = _learn(stage, story, store)
    wait_for_http(endpoint, address)
    cloud = Cloud(address)
    cloud.prepare()
    hour = transactions_of(story.live)
    live = stack.enter_context(live_processes(places, cloud, redis_port=redis_port, currency=hour[0].currency))
    answers, stream = _play_hour(stage, cloud, live, hour)
    parity, at_rest = _prove(stage, story, store, hour)
    second, third, swap = _retrain(stage, story, learned, live, hour)
    types = fraud_types(story.live_truth)
    found = Found(
        data=options.data,
        hour=hour_shape(story, types),
        answers=answers,
        outcomes=outcomes_by_type(answers, types),
        freshness_ms=event_freshness(stream, places.stream / "changes"),
        stream=stream | {"applied_rows": len(applied_rows(places))},
        parity=parity,
        at_rest=at_rest,
        compared=learned.compared,
        weeks=(("first champion", learned.first), ("this week", second), ("broken stream", third)),
        shown=worth_showing(hour, answers, types),
        swap=swap,
        memory=stage.memory,
        seconds=time.perf_counter() - started,
        steps=stage.clock.marks,
    )
    return found, curl_line(hour[-1], live.port)


def _prepare(stage: Stage, redis_port: int) -> tuple[Story, Any]:
    """Make the history, apply the repository, backfill profiles and fill the online store."""
    places, options = stage.places, stage.options
    environ = feature_environment(places, redis_port)
    with uninterrupted():
        apply = begin_apply(places, environ)
        stage.stack.callback(stop, apply)
    with stage.step("Generate the history") as step:
        if options.data == "handbook":
            story = handbook(places.lake, options.source, say=step.say)
        else:
            story = simulated(places.lake, size=options.size, seed=options.seed, say=step.say)
        manifest = json.loads((places.lake / "manifest.json").read_text())
        step.note = f"{manifest['rows']:,} transactions, {manifest['frauds']:,} frauds"
    with stage.step("Apply the feature repository") as step:
        store = open_feature_store(apply, environ, places)
        step.note = "feast apply"
    with stage.step("Backfill the nightly profiles") as step:
        report = write_profiles(places.lake, progress=step.advance)
        step.note = f"{report.card_rows:,} card and {report.merchant_rows:,} merchant rows"
    with stage.step("Materialize the online store") as step:
        materialize(store, story, step)
        step.note = "feast materialize, states from the log"
    return story, store


def _learn(stage: Stage, story: Story, store: Any) -> Learned:
    """Build the point-in-time training set, train the first champion and compare it with the frozen baseline."""
    places = stage.places
    registry, limits = Registry(places.models), replace(LIMITS, recall=story.recall)
    read_plan = compiled_plan(store)
    first_at = story.live_start_ms - story.evaluate_days * WEEK_MS // 7
    with stage.step("Point-in-time training set") as step:
        rows = build_training_set(
            store,
            places.lake,
            start_ms=story.plan.edges(first_at)[0],
            end_ms=story.live_start_ms,
            as_of_ms=first_at,
            progress=step.advance,
        )
        asked = DatasetRequest(int(rows.event_time_ms[0]), story.live_start_ms, label_delay_ms=0, as_of_ms=first_at)
        rows, proof = proven(rows, places.lake, asked, seed=0, progress=lambda _done, _all: None)
        leaks = f"{len(proof.audit.leaks)} leaks in {proof.audit.probes} audited"
        step.note = f"{len(rows.is_fraud):,} rows x {len(rows.features)} features; {leaks}"
    with stage.step("Train the first champion") as step:
        build = _from_held(rows, places.lake)
        first = train(build, registry, story, read_plan, limits, places.lake, as_of_ms=first_at, progress=step.advance)
        if not first.promoted:
            raise DemoStopped(f"the first champion was refused: {'; '.join(first.verdict.reasons)}")
        step.note = f"version {first.challenger}"
    with stage.step("Compare with a frozen baseline") as step:
        compared = compare_with_baseline(rows, registry, story, places, champion_at_ms=first_at)
        step.note = f"{compared.cut.cut:.0%} fewer false positives at {compared.cut.recall:.0%} catch"
    return Learned(rows, registry, read_plan, limits, first, compared)


def _play_hour(stage: Stage, cloud: Cloud, live: Live, hour: Sequence[Transaction]) -> tuple[Answers, dict[str, Any]]:
    """Play the live hour, wait until the stream is drained, and bring home what the worker logged."""
    with stage.step("Play the live hour") as step:
        answers = play(hour, live, cloud, seconds=stage.options.replay_seconds, step=step)
        step.note = f"{answers.requests:,} payments answered, {answers.errors} errors"
    with stage.step("Drain the stream") as step:
        stream = drain(stage.places, live, records=sum(1 for t in hour for _ in records_of(t)), step=step)
        for prefix in ("changes/", "transactions/", "dead-letters/"):
            cloud.fetch(prefix, stage.places)
        rows = join_the_lake(stage.places)
        step.note = f"{stream['applied']:,} changes, {rows:,} transactions kept"
    return answers, stream


def _prove(stage: Stage, story: Story, store: Any, hour: Sequence[Transaction]) -> tuple[Parity, dict[str, int]]:
    """Compare every served vector with the log, and Feast online with Feast offline once all is quiet."""
    with stage.step("Prove parity") as step:
        logged = list(read_decisions(stage.places.decisions))
        parity = certify(store, logged, stage.places, [t.transaction_id for t in hour])
        at_rest = compare_at_rest(store, hour[-200:], as_of_ms=story.live_start_ms + 5 * HOUR)
        step.note = f"{parity.compared:,} vectors, {parity.mismatched} mismatches"
    return parity, at_rest


def _retrain(
    stage: Stage, story: Story, learned: Learned, live: Live, hour: Sequence[Transaction]
) -> tuple[WeekReport, WeekReport, dict[str, Any]]:
    """Run this week's iteration under traffic, and one that the gate has to refuse."""
    now, lake = story.live_start_ms, stage.places.lake
    settings = learned.read_plan, learned.limits, lake
    with stage.step("Retrain: this week's iteration") as step:
        build = _from_held(learned.rows, lake)
        with SteadyTraffic(hour[:400], live.port) as traffic:
            second = train(build, learned.registry, story, *settings, as_of_ms=now, progress=step.advance)
            champion = learned.registry.champion_version() or ""
            swapped = traffic.wait_for(champion, answers=50, within_s=SWAP_WITHIN_S)
        live.scorer.check()
        if not swapped:
            raise DemoStopped(f"the scorer did not take up the promoted champion within {SWAP_WITHIN_S:.0f} s")
        said = traffic.answers
        step.note = f"{_verdict_word(second)}; {said.requests:,} answers, {said.errors} errors"
    with stage.step("Retrain: with a broken stream") as step:
        blind = _without_velocity(learned.rows, before_ms=story.plan.edges(now)[2])
        build = _from_held(blind, lake)
        third = train(build, learned.registry, story, *settings, as_of_ms=now, progress=step.advance)
        if third.promoted:
            raise DemoStopped("the gate let a model without velocity pass; see the checks in models/history.jsonl")
        step.note = f"{_verdict_word(third)}, as it must be: {len(third.verdict.reasons)} checks failed"
    swap = {
        "requests": said.requests,
        "errors": said.errors,
        "versions": said.versions,
        "before": learned.first.challenger,
        "promoted": second.promoted,
    }
    return second, third, swap


class Clock:
    """Seconds that each step took."""

    def __init__(self) -> None:
        self.marks: dict[str, float] = {}

    def mark(self, name: str, since: float) -> None:
        """Note that the step ``name``, begun at ``since``, is done."""
        self.marks[name] = time.perf_counter() - since


def _from_held(rows: TrainingSet, lake: Path) -> Builder:
    """Return a builder that cuts spans out of a set already built, with labels as known at the time asked for."""
    statements = read_labels(lake)

    def build(start_ms: int, end_ms: int, as_of_ms: int) -> TrainingSet:
        taken = rows.between(start_ms, end_ms)
        ids = rows.transaction_id[taken]
        return replace(
            rows,
            matrix=rows.matrix[taken],
            transaction_id=ids,
            card=rows.card[taken],
            event_time_ms=rows.event_time_ms[taken],
            amount_minor=rows.amount_minor[taken],
            is_fraud=settle_labels(statements, ids, as_of_ms=as_of_ms).is_fraud,
            as_of_ms=as_of_ms,
        )

    return build


def _without_velocity(rows: TrainingSet, *, before_ms: int) -> TrainingSet:
    """Return the set as it would be had the stream been down until a time: every velocity value null."""
    matrix = rows.matrix.copy()
    columns = rows.columns(tuple(feature.name for feature in VELOCITY + CROSS_FEATURES))
    matrix[: rows.between(before_ms, before_ms + 1).start, columns] = np.nan
    return replace(rows, matrix=matrix)


def _verdict_word(report: WeekReport) -> str:
    return "promoted" if report.promoted else "refused"
