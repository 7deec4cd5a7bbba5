"""The demo from beginning to end, in one readable function."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from demo.errors import DemoStopped
from demo.figures import Found, Shown
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
from demo.live import Cloud, Live, drain, keep_asking, live_processes, play
from demo.places import Places
from demo.processes import aws_endpoint, stop, valkey, wait_for_http
from demo.proof import applied_rows, certify, compare_at_rest, event_freshness, join_the_lake
from demo.replay import Answers, transactions_of
from demo.screen import Screen, Step
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
from training.labels import read_labels, settle_labels
from training.profiles import write_profiles


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
    """What every part of the story needs: where, on which screen, for whom, and what stops the processes."""

    stack: ExitStack
    screen: Screen
    places: Places
    options: Options
    clock: "Clock"

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


def play_story(stack: ExitStack, screen: Screen, places: Places, options: Options, *, started: float) -> Found:
    """Run every part and return what was found; ``stack`` stops the processes whatever happens."""
    stage = Stage(stack, screen, places, options, Clock())
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
    types = dict(zip(story.live_truth["transaction_id"].to_pylist(), _types(story.live_truth), strict=True))
    return Found(
        data=options.data,
        answers=answers,
        outcomes=_outcomes(answers, types),
        freshness_ms=event_freshness(stream, places.stream / "changes"),
        stream=stream | {"applied_rows": len(applied_rows(places))},
        parity=parity,
        at_rest=at_rest,
        compared=learned.compared,
        weeks=(("first champion", learned.first), ("this week", second), ("broken stream", third)),
        shown=_worth_showing(hour, answers, types),
        swap=swap,
        seconds=time.perf_counter() - started,
        steps=stage.clock.marks,
    )


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
        step.note = f"{manifest['rows']:,} transactions, {manifest['frauds']:,} frauds, {manifest['days']} days"
    with stage.step("Apply the feature repository") as step:
        store = open_feature_store(apply, environ, places)
        step.note = "feast apply"
    with stage.step("Backfill the nightly profiles") as step:
        report = write_profiles(places.lake, progress=step.advance)
        step.note = f"{report.card_rows:,} card rows, {report.merchant_rows:,} merchant rows"
    with stage.step("Materialize the online store") as step:
        materialize(store, story)
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
        step.note = f"{len(rows.is_fraud):,} rows x {len(rows.features)} features, through get_historical_features"
    with stage.step("Train the first champion") as step:
        build = _from_held(rows, places.lake)
        first = train(build, registry, story, as_of_ms=first_at, read_plan=read_plan, limits=limits)
        if not first.promoted:
            raise DemoStopped(f"the first champion was refused: {'; '.join(first.verdict.reasons)}")
        step.note = f"version {first.challenger}"
    with stage.step("Compare with the frozen baseline") as step:
        compared = compare_with_baseline(rows, registry, story, places, champion_at_ms=first_at)
        step.note = f"{compared.cut.cut:.0%} fewer false positives at {compared.cut.recall:.0%} catch"
    return Learned(rows, registry, read_plan, limits, first, compared)


def _play_hour(stage: Stage, cloud: Cloud, live: Live, hour: Sequence[Transaction]) -> tuple[Answers, dict[str, Any]]:
    """Play the live hour, wait until the stream is drained, and bring home what the worker logged."""
    with stage.step("Play the live hour") as step:
        answers = play(hour, live, cloud, seconds=stage.options.replay_seconds, step=step)
        step.note = f"{answers.requests:,} payments through HTTP and Kinesis, {answers.errors} errors"
    with stage.step("Drain the stream") as step:
        stream = drain(stage.places, live, records=sum(1 for t in hour for _ in records_of(t)))
        for prefix in ("changes/", "transactions/", "dead-letters/"):
            cloud.fetch(prefix, stage.places)
        rows = join_the_lake(stage.places)
        step.note = f"{stream['applied']:,} changes applied, {rows:,} transactions in the offline log"
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
    with stage.step("Retrain: this week's iteration") as step:
        build = _from_held(learned.rows, lake)
        second = train(build, learned.registry, story, as_of_ms=now, read_plan=learned.read_plan, limits=learned.limits)
        answers = keep_asking(hour[:400], live.port, seconds=4.0)
        live.scorer.check()
        step.note = _verdict_note(second)
    with stage.step("Retrain: with a broken stream, to see it refused") as step:
        blind = _without_velocity(learned.rows, before_ms=story.plan.edges(now)[2])
        build = _from_held(blind, lake)
        third = train(build, learned.registry, story, as_of_ms=now, read_plan=learned.read_plan, limits=learned.limits)
        if third.promoted:
            raise DemoStopped("the gate let a model without velocity pass; see the checks in models/history.jsonl")
        step.note = _verdict_note(third)
    swap = {
        "requests": answers.requests,
        "errors": answers.errors,
        "versions": answers.versions,
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


def _verdict_note(report: WeekReport) -> str:
    if report.promoted:
        return f"promoted {report.challenger}"
    return f"refused {report.challenger}: {report.verdict.reasons[0]}"


def _types(truth: pa.Table) -> list[str]:
    return [kind or "" for kind in truth["fraud_type"].to_pylist()]


def _outcomes(answers: Answers, types: dict[str, str]) -> dict[str, dict[str, int]]:
    """Return, per fraud type (legitimate included), how often each outcome was answered."""
    counts: dict[str, dict[str, int]] = {}
    for name, decision in answers.decisions.items():
        row = counts.setdefault(types.get(name) or "legitimate", {"approve": 0, "review": 0, "decline": 0})
        row[decision["outcome"]] += 1
    return dict(sorted(counts.items()))


def _worth_showing(
    hour: Sequence[Transaction], answers: Answers, types: dict[str, str], count: int = 3
) -> tuple[Shown, ...]:
    """Return caught frauds with reasons, of different types where there are, the highest scores first."""
    caught = [
        (types[t.transaction_id], t, answers.decisions[t.transaction_id])
        for t in hour
        if types.get(t.transaction_id) and answers.decisions.get(t.transaction_id, {}).get("reasons")
    ]
    caught.sort(key=lambda item: -item[2]["score"])
    chosen: list[tuple[str, Transaction, dict[str, Any]]] = []
    for item in caught:
        if len(chosen) < count and item[0] not in {kind for kind, _, _ in chosen}:
            chosen.append(item)
    chosen += [item for item in caught if item not in chosen][: count - len(chosen)]
    return tuple(
        Shown(
            kind,
            {
                "amount": f"{t.amount_minor / 100:.2f} {t.currency}",
                "channel": t.channel,
                "country": t.country,
                "card": t.card_id,
                "merchant": t.merchant_id,
            },
            decision,
        )
        for kind, t, decision in chosen
    )
