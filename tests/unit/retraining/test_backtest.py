"""The replay decides each week by what was known then, serves what the gate let through, and keeps the first beside."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from fraud.windows import DAY
from retraining.backtest import Playback, PlayedWeek, Span, history_builder, play
from retraining.backtest_gain import backtest_figures, gain_of
from retraining.backtest_page import draw, render
from retraining.judging import champion_scores
from retraining.limits import LIMITS, GateLimits
from retraining.registry import Registry
from retraining.weekly import WeekPlan
from stores.plan import plan_data
from tests.support.bundles import read_plan
from training.compromised import unblocked
from training.dataset import TrainingSet, labelled_at
from training.errors import InvalidSplit
from training.fit import Recipe
from training.ranking import rank
from training.transaction_log import LABELS_SCHEMA

NAMES = ("a", "b", "c", "d")
PLAN = WeekPlan(
    train_days=10, validation_days=6, test_days=4, label_delay_days=3, recipe=Recipe(trees=25, early_stopping=5)
)
DAYS, A_DAY = 56, 600
SPAN = Span(3, (DAYS - 12) * DAY)
OPEN = replace(LIMITS, psi=99.0)
"""The drift of this world moves every score: whether that alone may refuse is not what is tested here."""
IDS = pa.array([f"t{number}" for number in range(DAYS * A_DAY)])


def world() -> tuple[TrainingSet, pa.Table]:
    """Payments whose fraud moves from one feature to another half-way, each reported three days later."""
    rng = np.random.default_rng(3)
    count = DAYS * A_DAY
    matrix = rng.normal(size=(count, len(NAMES))).astype(np.float32)
    time = np.arange(count) * (DAYS * DAY // count)
    late = time >= SPAN.times()[0] - 3 * DAY
    is_fraud = rng.random(count) < 1 / (1 + np.exp(-4.0 * np.where(late, matrix[:, 1], matrix[:, 0]) + 7.0))
    rows = TrainingSet(
        features=NAMES,
        matrix=matrix,
        transaction_id=IDS,
        card=np.arange(count),
        event_time_ms=time,
        amount_minor=rng.integers(100, 9_000, count),
        is_fraud=np.zeros(count, np.bool_),
        as_of_ms=0,
    )
    said = pa.array((time[is_fraud] + 3 * DAY) * 1000, pa.int64()).cast(pa.timestamp("us", "UTC"))
    frauds = IDS.filter(pa.array(is_fraud))
    columns = [frauds, pa.array([True] * len(frauds)), pa.array(["chargeback"] * len(frauds)), said, said]
    return rows, pa.table(columns, schema=LABELS_SCHEMA)


HISTORY, STATEMENTS = world()
Run = Callable[..., Playback]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def started(
        statements: pa.Table = STATEMENTS,
        *,
        limits: GateLimits = OPEN,
        name: str = "models",
        rows: TrainingSet = HISTORY,
    ) -> Playback:
        return play(
            rows, statements, Registry(tmp_path / name), plan=PLAN, span=SPAN, read_plan=plan_data(read_plan()),
            root=tmp_path, limits=limits,
        )  # fmt: skip

    return started


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Playback, Registry]:
    folder = tmp_path_factory.mktemp("replay")
    registry = Registry(folder / "models")
    found = play(
        HISTORY, STATEMENTS, registry, plan=PLAN, span=SPAN, read_plan=plan_data(read_plan()), root=folder, limits=OPEN
    )
    return found, registry


def test_every_week_is_the_loops_own_verdict(played: tuple[Playback, Registry]) -> None:
    found, registry = played
    events = registry.history()
    assert [week.outcome for week in found.weeks] == [event["event"] for event in events]
    assert [week.challenger for week in found.weeks] == [event["version"] for event in events]
    assert found.weeks[-1].champion == registry.champion_version()
    assert found.weeks[0].outcome == "promoted"


def test_the_kept_column_is_the_first_champions_score(played: tuple[Playback, Registry]) -> None:
    found, registry = played
    assert found.lived is not None
    first = registry.version(str(found.weeks[0].champion))
    assert {week.kept for week in found.weeks} == {first.version}
    judged = HISTORY.between(SPAN.times()[0], SPAN.last_ms + 7 * DAY)
    scores = champion_scores(first, HISTORY, judged)
    assert found.lived.kept.tolist() == scores.tolist()
    assert found.lived.kept_alert.tolist() == (scores >= first.policy.review_at).tolist()


def test_realised_figures_are_the_served_models_on_the_week_that_followed(played: tuple[Playback, Registry]) -> None:
    found, registry = played
    for week, as_of_ms in zip(found.weeks, SPAN.times(), strict=True):
        served, matured_ms = registry.version(str(week.champion)), as_of_ms + (7 + PLAN.label_delay_days) * DAY
        rows = labelled_at(HISTORY, STATEMENTS, matured_ms)
        taken = rows.between(as_of_ms, as_of_ms + 7 * DAY)
        scores, fraud = champion_scores(served, rows, taken), rows.is_fraud[taken]
        assert week.realised is not None
        assert week.realised.frauds == int(fraud.sum())
        assert week.realised.pr_auc == float(rank(scores, fraud).curve().average_precision()[0])
        assert week.realised.false_positives == int(((scores >= served.policy.review_at) & ~fraud).sum())


def test_retraining_follows_the_drift_that_the_kept_champion_misses(played: tuple[Playback, Registry]) -> None:
    found, _ = played
    assert found.lived is not None
    gain = gain_of(found.lived)
    assert gain is not None
    assert gain.pr_auc_gain.low is not None
    assert gain.pr_auc_gain.low > 0.0
    last = found.weeks[-1]
    assert last.outcome == "promoted"
    assert last.realised is not None
    assert last.without is not None
    assert (last.realised.pr_auc or 0.0) > 3 * (last.without.pr_auc or 1.0)
    assert (last.realised.recall or 0.0) > 3 * (last.without.recall or 0.0)


def decided(week: PlayedWeek) -> tuple[object, ...]:
    """Return a week's decision, whose versions are digests of bytes; how long a row took is the clock's."""
    checks = [(check.name, check.passed, re.sub(r"[0-9.]+ us", "", check.evidence)) for check in week.checks]
    return week.as_of, week.outcome, week.reasons, week.challenger, week.champion, week.kept, checks


def test_labels_that_arrive_after_a_week_do_not_change_it(run: Run, played: tuple[Playback, Registry]) -> None:
    found, _ = played
    late = pc.greater_equal(STATEMENTS["created_timestamp"].cast(pa.int64()), SPAN.times()[1] * 1000 + 1)
    turned = pc.xor(STATEMENTS["is_fraud"], late)
    other = run(STATEMENTS.set_column(1, "is_fraud", turned.cast(pa.bool_())))
    assert [decided(week) for week in other.weeks[:2]] == [decided(week) for week in found.weeks[:2]]
    assert other.weeks[2].challenger != found.weeks[2].challenger


def test_a_refused_week_keeps_the_champion(run: Run) -> None:
    first_only = run(limits=replace(OPEN, pr_auc_loss=-9.0))
    # Against itself the first challenger gains nothing either: it is refused, and nobody ever serves.
    assert {week.outcome for week in first_only.weeks} == {"refused"}
    assert {week.champion for week in first_only.weeks} == {None}
    assert first_only.lived is None


def test_a_challenger_that_loses_leaves_the_champion_serving(run: Run, played: tuple[Playback, Registry]) -> None:
    found, _ = played
    strict = run(limits=replace(OPEN, psi=1e-9))
    assert [week.outcome for week in strict.weeks] == ["promoted", "refused", "refused"]
    assert {week.champion for week in strict.weeks} == {found.weeks[0].champion}
    assert strict.lived is not None
    assert strict.lived.retrained.tolist() == strict.lived.kept.tolist()
    assert all("scores_stable: PSI" in "; ".join(week.reasons) for week in strict.weeks[1:])


def test_a_week_that_fails_has_its_reason_and_the_loop_goes_on(run: Run) -> None:
    none_yet = pc.less(STATEMENTS["created_timestamp"].cast(pa.int64()), 0)
    silent = run(STATEMENTS.filter(none_yet))
    assert [week.outcome for week in silent.weeks] == ["failed"] * 3
    assert silent.weeks[0].reasons[0].startswith("unfit_training_set: training has 0 frauds")
    figures = backtest_figures(silent, None, {"lake": "x"})
    assert (figures["promoted"], figures["failed"], figures["gain"]) == (0, 3, None)


def test_weeks_whose_labels_have_not_matured_are_not_judged(run: Run) -> None:
    known = pc.less(STATEMENTS["created_timestamp"].cast(pa.int64()), (SPAN.last_ms + 8 * DAY) * 1000)
    end = HISTORY.between(0, SPAN.last_ms + 7 * DAY)
    cut = history_builder(HISTORY, STATEMENTS)(0, SPAN.last_ms + 7 * DAY, 0)
    assert len(cut.is_fraud) == end.stop
    young = run(STATEMENTS.filter(known), rows=cut)
    assert [week.realised is None for week in young.weeks] == [False, False, True]


def test_a_history_that_begins_too_late_is_refused(run: Run) -> None:
    late = history_builder(HISTORY, STATEMENTS)(20 * DAY, DAYS * DAY, 0)
    with pytest.raises(InvalidSplit, match="the history begins 1970-01-21"):
        run(rows=late)


def test_the_page_holds_picture_weeks_and_figures(played: tuple[Playback, Registry]) -> None:
    found, _ = played
    assert found.lived is not None
    png = draw(found)
    page = render(found, gain_of(found.lived), png, title="a < b")
    assert png.startswith(b"\x89PNG")
    assert "<title>a &lt; b</title>" in page
    assert all(week.as_of in page for week in found.weeks)
    assert 'src="http' not in page


def test_payments_of_cards_known_as_compromised_are_judged_by_nobody(run: Run) -> None:
    rows = replace(HISTORY, card=np.arange(len(HISTORY.card)) % 9_000)
    lived = run(rows=rows, name="few-cards").lived
    everything = run(name="a-card-each").lived
    assert lived is not None
    assert everything is not None
    week = HISTORY.between(SPAN.times()[0], SPAN.last_ms + 7 * DAY)
    free = unblocked(rows, STATEMENTS)[week]
    assert len(everything.is_fraud) == week.stop - week.start
    assert len(lived.is_fraud) == int(free.sum()) < len(everything.is_fraud)
