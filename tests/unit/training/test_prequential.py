"""A replayed week knows nothing that came later, and its figures agree with the rows they are of."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.support.replays import DAYS, DELAY_MS, EXTRA, START_MS, World, make_world, write_world
from training.challenger import TrainingPlan
from training.compromised import unblocked
from training.costs import Costs
from training.dataset import labelled_at, with_features
from training.errors import IncompleteTrainingSet, InvalidSplit
from training.fit import Recipe
from training.metrics import average_precision
from training.prequential import Replay, Week, replay_weeks, span_of
from training.ranking import DAY_MS
from training.segments import ABOVE, segments_of
from training.weekly_evaluation import evaluate_weeks, gather_judged
from training.weekly_page import render_page

WORLD = make_world()
PLAN = TrainingPlan(28, 7, label_delay_days=7, recipe=Recipe(trees=12, depth=3, early_stopping=5))
REPLAY = Replay(2, (0, 1), (0.5, 0.7), Costs(), reviews_a_day=5.0)
FREE = unblocked(WORLD.rows, WORLD.statements)


def replayed(world: World = WORLD, replay: Replay = REPLAY) -> tuple[Week, ...]:
    calls: list[tuple[int, int]] = []
    weeks = replay_weeks(
        world.rows, world.statements, FREE, PLAN, replay, progress=lambda done, of: calls.append((done, of))
    )
    fits = 2 * replay.weeks * len(replay.seeds)
    assert calls == [(number, fits) for number in range(1, fits + 1)]
    return weeks


@pytest.fixture(scope="module")
def weeks() -> tuple[Week, ...]:
    return replayed()


def test_weeks_follow_one_another_without_overlap_and_without_blocked_cards(weeks: tuple[Week, ...]) -> None:
    end = START_MS + DAYS * DAY_MS
    first, second = (WORLD.rows.event_time_ms[week.taken] for week in weeks)
    assert end - 14 * DAY_MS <= first.min() <= first.max() < end - 7 * DAY_MS <= second.min()
    assert all(FREE[week.taken].all() for week in weeks)
    assert not FREE.all()
    assert span_of(PLAN, weeks=2, end_ms=end) == (end - (14 + 7 + 7 + 28) * DAY_MS, end)


def test_what_was_not_known_by_a_week_changes_none_of_its_scores() -> None:
    one = Replay(1, (0,), (0.5,), Costs(), reviews_a_day=5.0)
    week_start = START_MS + (DAYS - 7) * DAY_MS
    unknown = WORLD.rows.event_time_ms >= week_start - DELAY_MS
    matrix = WORLD.rows.matrix.copy()
    matrix[unknown & (WORLD.rows.event_time_ms < week_start)] = 9.0
    late = np.isin(WORLD.statements["transaction_id"].to_numpy(), np.array(WORLD.rows.transaction_id)[unknown])
    assert late.any()
    statements = WORLD.statements.filter(pa.array(~late))
    changed = replace(WORLD, rows=replace(WORLD.rows, matrix=matrix), statements=statements)
    (before,), (after,) = replayed(WORLD, one), replayed(changed, one)
    for side in ("baseline", "ours"):
        assert np.array_equal(getattr(before, side)[0], getattr(after, side)[0])
    assert before.solution == after.solution
    earlier = WORLD.rows.matrix.copy()
    earlier[~unknown] = 9.0
    other = replayed(replace(WORLD, rows=replace(WORLD.rows, matrix=earlier)), one)[0]
    assert not np.array_equal(before.ours[0], other.ours[0])


def test_the_evaluation_agrees_with_the_scores_and_makes_a_page(weeks: tuple[Week, ...], tmp_path: Path) -> None:
    write_world(WORLD, tmp_path)
    judged = gather_judged(WORLD.rows, weeks, tmp_path, WORLD.statements, judged_by="truth")
    taken = np.concatenate([week.taken for week in weeks])
    assert np.array_equal(judged.rows.is_fraud, WORLD.rows.is_fraud[taken])
    found = evaluate_weeks(judged, weeks, REPLAY, judged_by="truth", left_out=7, k=5)
    assert [week.rows for week in found.weeks] == [len(week.taken) for week in weeks]
    for position, week in enumerate(weeks):
        each = [average_precision(fit, WORLD.rows.is_fraud[week.taken]) for fit in week.ours]
        assert found.weeks[position].pr_auc == pytest.approx(np.mean(each))
    assert found.ours.pr_auc.point > found.baseline.pr_auc.point
    assert found.at[0].cut.point > 0
    assert {one.fraud_type for one in found.at[0].by_type} == {"theft", "testing"}
    assert {part.segment for part in found.at[0].by_segment} == {"channel", "country", "category", "amount"}
    assert {(one.asked, one.side) for one in found.fixed} == {(r, s) for r in (0.5, 0.7) for s in ("baseline", "ours")}
    assert all(abs(one.reached - one.asked) < 0.25 for one in found.fixed)
    page = render_page(found, title="a <small> world")
    assert "a &lt;small&gt; world" in page
    assert page.count("data:image/png;base64,") == 4
    assert found.figures()["at"][1]["recall"] == 0.7


def test_labels_judge_as_the_truth_does_where_all_have_arrived(weeks: tuple[Week, ...], tmp_path: Path) -> None:
    write_world(WORLD, tmp_path)
    by_label, by_truth = (
        gather_judged(WORLD.rows, weeks, tmp_path, WORLD.statements, judged_by=judge) for judge in ("labels", "truth")
    )
    assert np.array_equal(by_label.rows.is_fraud, by_truth.rows.is_fraud)


def test_segments_part_every_row_once(tmp_path: Path) -> None:
    write_world(WORLD, tmp_path)
    parts = segments_of(WORLD.rows, tmp_path)
    assert set(parts["country"].tolist()) >= {"BE", "FR", "elsewhere"}
    assert len(set(parts["country"].tolist())) == 6
    assert set(parts["category"].tolist()) == {"airlines", "retail", "professional, public"}
    band = parts["amount"]
    assert (WORLD.rows.amount_minor[band == ABOVE] >= 100_000).all()
    assert (WORLD.rows.amount_minor[band == "10 to 50"] < 5_000).all()
    assert (WORLD.rows.amount_minor[band == "10 to 50"] >= 1_000).all()
    (tmp_path / "transactions" / "dt=2024-10-04").rename(tmp_path / "elsewhere")
    with pytest.raises(IncompleteTrainingSet, match="no longer has"):
        segments_of(WORLD.rows, tmp_path)


def test_a_replay_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidSplit, match="0 weeks and 1 seeds"):
        replace(REPLAY, weeks=0, seeds=(0,))
    blocked = np.zeros(len(FREE), np.bool_)
    with pytest.raises(InvalidSplit, match="holds no row of a card that is not blocked"):
        replay_weeks(WORLD.rows, WORLD.statements, blocked, PLAN, REPLAY, progress=lambda *_: None)


def test_the_feature_beyond_the_baseline_is_no_input_of_the_baseline() -> None:
    assert EXTRA in WORLD.rows.features
    matrix = WORLD.rows.matrix.copy()
    matrix[:, -1] = 0.0
    one = Replay(1, (0,), (0.5,), Costs(), reviews_a_day=5.0)
    plain, blind = (
        replayed(world, one)[0] for world in (WORLD, replace(WORLD, rows=replace(WORLD.rows, matrix=matrix)))
    )
    assert np.array_equal(plain.baseline[0], blind.baseline[0])
    assert not np.array_equal(plain.ours[0], blind.ours[0])


def test_labels_of_another_time_and_fewer_features_leave_the_rows_as_they_are() -> None:
    middle = START_MS + DAYS * DAY_MS // 2
    early = labelled_at(WORLD.rows, WORLD.statements, middle)
    assert np.array_equal(early.is_fraud, WORLD.rows.is_fraud & (WORLD.rows.event_time_ms + DELAY_MS <= middle))
    assert early.as_of_ms == middle
    names = (WORLD.rows.features[5], WORLD.rows.features[2])
    few = with_features(WORLD.rows, names)
    assert few.features == names
    assert np.array_equal(few.matrix, WORLD.rows.matrix[:, [5, 2]])
