"""The demo from beginning to end, in one readable function."""

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from demo.errors import DemoStopped
from demo.figures import Found, Shown
from demo.history import Story, handbook, simulated
from demo.learning import (
    WEEK_MS,
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
from demo.screen import Screen
from fraud.features import CROSS_FEATURES, VELOCITY
from fraud.record import records_of
from fraud.transaction import Transaction
from fraud.windows import HOUR
from monitoring.decision_log import read_decisions
from retraining.gate import LIMITS
from retraining.registry import Registry
from retraining.weekly import Builder, WeekReport
from training.dataset import TrainingSet, build_training_set
from training.labels import read_labels, settle_labels
from training.profiles import write_profiles


def play_story(
    stack: ExitStack,
    screen: Screen,
    places: Places,
    *,
    data: str,
    size: str,
    seed: int,
    source: Path,
    replay_seconds: float,
    started: float,
) -> Found:
    """Run every step and return what was found; ``stack`` stops the processes whatever happens."""
    clock = _Clock()
    endpoint, address = stack.enter_context(aws_endpoint(places))
    redis_port = stack.enter_context(valkey())
    environ = feature_environment(places, redis_port)
    apply = begin_apply(places, environ)
    stack.callback(stop, apply)
    with screen.step("Generate the history") as step:
        if data == "handbook":
            story = handbook(places.lake, source, say=step.say)
        else:
            story = simulated(places.lake, size=size, seed=seed, say=step.say)
        manifest = json.loads((places.lake / "manifest.json").read_text())
        step.note = f"{manifest['rows']:,} transactions, {manifest['frauds']:,} frauds, {manifest['days']} days"
    clock.mark("history")
    with screen.step("Apply the feature repository") as step:
        store = open_feature_store(apply, environ, places)
        step.note = "feast apply"
    clock.mark("apply")
    with screen.step("Backfill the nightly profiles") as step:
        report = write_profiles(places.lake, progress=step.advance)
        step.note = f"{report.card_rows:,} card rows, {report.merchant_rows:,} merchant rows"
    clock.mark("profiles")
    with screen.step("Materialize the online store") as step:
        materialize(store, story)
        step.note = "feast materialize, states from the log"
    clock.mark("materialize")
    registry, limits = Registry(places.models), replace(LIMITS, recall=story.recall)
    read_plan = compiled_plan(store)
    first_at = story.live_start_ms - story.evaluate_days * WEEK_MS // 7
    with screen.step("Point-in-time training set") as step:
        rows = build_training_set(
            store, places.lake, start_ms=story.plan.edges(first_at)[0], end_ms=story.live_start_ms,
            as_of_ms=first_at, progress=step.advance,
        )  # fmt: skip
        step.note = f"{len(rows.is_fraud):,} rows x {len(rows.features)} features, through get_historical_features"
    clock.mark("training set")
    build = _from_held(rows, places.lake)
    with screen.step("Train the first champion") as step:
        first = train(build, registry, story, as_of_ms=first_at, read_plan=read_plan, limits=limits)
        if not first.promoted:
            raise DemoStopped(f"the first champion was refused: {'; '.join(first.verdict.reasons)}")
        step.note = f"version {first.challenger}"
    with screen.step("Compare with the frozen baseline") as step:
        compared = compare_with_baseline(rows, registry, story, places, champion_at_ms=first_at)
        step.note = f"false positives at {compared.cut.recall:.0%} catch: {compared.cut.cut:+.0%} fewer"
    clock.mark("train and compare")
    cloud = Cloud(address)
    wait_for_http(endpoint, address)
    cloud.prepare()
    hour = transactions_of(story.live)
    live = stack.enter_context(live_processes(places, cloud, redis_port=redis_port, currency=hour[0].currency))
    with screen.step("Play the live hour") as step:
        answers = play(hour, live, cloud, seconds=replay_seconds, step=step)
        step.note = f"{answers.requests:,} payments through HTTP and Kinesis, {answers.errors} errors"
    with screen.step("Drain the stream") as step:
        stream = drain(places, live, records=sum(1 for t in hour for _ in records_of(t)))
        for prefix in ("changes/", "transactions/", "dead-letters/"):
            cloud.fetch(prefix, places)
        logged_rows = join_the_lake(places)
        step.note = f"{stream['applied']:,} changes applied, {logged_rows:,} transactions in the offline log"
    clock.mark("live hour")
    with screen.step("Prove parity") as step:
        logged = list(read_decisions(places.decisions))
        parity = certify(store, logged, places, [t.transaction_id for t in hour])
        at_rest = compare_at_rest(store, hour[-200:], as_of_ms=story.live_start_ms + 3 * HOUR)
        step.note = f"{parity.compared:,} vectors, {parity.mismatched} mismatches"
    clock.mark("parity")
    with screen.step("Retrain: this week's iteration") as step:
        second, swap = _retrain_live(build, registry, story, live, hour, read_plan)
        step.note = _verdict_note(second)
    with screen.step("Retrain: with a broken stream, to see it refused") as step:
        blind = _from_held(_without_velocity(rows, before_ms=story.plan.edges(story.live_start_ms)[2]), places.lake)
        third = train(blind, registry, story, as_of_ms=story.live_start_ms, read_plan=read_plan, limits=limits)
        if third.promoted:
            raise DemoStopped("the gate let a model without velocity pass; see the checks in models/history.jsonl")
        step.note = _verdict_note(third)
    clock.mark("retrain")
    types = dict(zip(story.live_truth["transaction_id"].to_pylist(), _types(story.live_truth), strict=True))
    return Found(
        data=data,
        answers=answers,
        outcomes=_outcomes(answers, types),
        freshness_ms=event_freshness(stream, places.stream / "changes"),
        stream=stream | {"applied_rows": len(applied_rows(places))},
        parity=parity,
        at_rest=at_rest,
        compared=compared,
        weeks=(("first champion", first), ("this week", second), ("broken stream", third)),
        shown=_worth_showing(hour, answers, types),
        swap=swap,
        seconds=time.perf_counter() - started,
        steps=clock.marks,
    )


class _Clock:
    """Seconds that each part took."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.marks: dict[str, float] = {}

    def mark(self, name: str) -> None:
        now = time.perf_counter()
        self.marks[name] = now - self._last
        self._last = now


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


def _retrain_live(
    build: Builder, registry: Registry, story: Story, live: Live, hour: Sequence[Transaction], read_plan: dict[str, Any]
) -> tuple[WeekReport, dict[str, Any]]:
    """Run this week's iteration under traffic; return its report and what the traffic saw of the swap."""
    limits = replace(LIMITS, recall=story.recall)
    report = train(build, registry, story, as_of_ms=story.live_start_ms, read_plan=read_plan, limits=limits)
    answers = keep_asking(hour[:400], live.port, seconds=4.0)
    live.scorer.check()
    return report, {
        "requests": answers.requests,
        "errors": answers.errors,
        "versions": answers.versions,
        "promoted": report.promoted,
    }


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
