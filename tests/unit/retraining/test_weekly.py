"""One iteration promotes, refuses with its reason, or changes nothing because it was done before."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from fraud.windows import DAY
from retraining.errors import MissingDays, RegistryBusy
from retraining.evidence import leaks_checked
from retraining.judging import champion_scores
from retraining.label_facts import FindFacts, LabelFacts
from retraining.limits import LIMITS, GateLimits
from retraining.registry import Registry
from retraining.verdict import Check
from retraining.weekly import Inspect, WeekPlan, WeekReport, run_week, week_figures
from stores.plan import plan_data
from tests.support.bundles import read_plan
from training.dataset import TrainingSet
from training.errors import UnfitTrainingSet
from training.reliability import reliability

NAMES = tuple(f"feature_{number}" for number in range(8))
PLAN = WeekPlan(train_days=12, validation_days=6, test_days=7, label_delay_days=5)
AS_OF_MS = 100 * DAY
A_DAY = 1200
Change = Callable[[TrainingSet], TrainingSet]


def world(*, days: int = 60, seed: int = 5) -> TrainingSet:
    """Payments whose fraud depends on the first three features, ending at the iteration's time."""
    rng = np.random.default_rng(seed)
    count = days * A_DAY
    matrix = rng.normal(size=(count, len(NAMES))).astype(np.float32)
    risk = 4.0 * matrix[:, 0] + 3.0 * matrix[:, 1] + 2.0 * matrix[:, 2] - 11.0
    return TrainingSet(
        features=NAMES,
        matrix=matrix,
        transaction_id=pa.array([f"t{number}" for number in range(count)]),
        card=rng.integers(0, 500, count),
        event_time_ms=AS_OF_MS - days * DAY + np.arange(count) * (days * DAY // count),
        amount_minor=rng.integers(1, 10_000, count),
        is_fraud=rng.random(count) < 1 / (1 + np.exp(-risk)),
        as_of_ms=AS_OF_MS,
    )


WORLD = world()


class Loop:
    """A registry and the iteration over it."""

    def __init__(self, folder: Path) -> None:
        self.registry = Registry(folder / "models")
        self.root = folder

    def run(
        self,
        *,
        week: int = 0,
        change: Change | None = None,
        limits: GateLimits = LIMITS,
        seed: int = 0,
        inspect: Inspect = lambda _rows: (),
        facts: FindFacts | None = None,
        again: bool = False,
        plan: WeekPlan = PLAN,
        day: int = 0,
    ) -> WeekReport:
        def build(start_ms: int, end_ms: int, as_of_ms: int) -> TrainingSet:
            taken = WORLD.between(start_ms, end_ms)
            rows = replace(
                WORLD,
                matrix=WORLD.matrix[taken].copy(),
                transaction_id=WORLD.transaction_id[taken],
                card=WORLD.card[taken],
                event_time_ms=WORLD.event_time_ms[taken],
                amount_minor=WORLD.amount_minor[taken],
                is_fraud=WORLD.is_fraud[taken].copy(),
                as_of_ms=as_of_ms,
            )
            return rows if change is None else change(rows)

        return run_week(
            build,
            self.registry,
            as_of_ms=AS_OF_MS + (7 * week + day) * DAY,
            plan=replace(plan, seed=seed),
            read_plan=plan_data(read_plan()),
            root=self.root,
            limits=limits,
            inspect=inspect,
            facts=facts,
            again=again,
        )


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    return Loop(tmp_path)


def failed(report: WeekReport) -> set[str]:
    return {check.name for check in report.verdict.checks if not check.passed}


def held_out_from(rows: TrainingSet) -> int:
    return int(rows.between(PLAN.edges(rows.as_of_ms)[2], rows.as_of_ms).start)


def blind_to_the_best(rows: TrainingSet) -> TrainingSet:
    """Return rows whose first two features were lost while the model was fitted."""
    rows.matrix[: held_out_from(rows), :2] = np.nan
    return rows


def too_many_labels(rows: TrainingSet) -> TrainingSet:
    """Return rows where eight in nine legitimate payments were lost before the held-out days."""
    start = held_out_from(rows)
    kept = np.ones(len(rows.is_fraud), np.bool_)
    kept[:start] = rows.is_fraud[:start] | (np.arange(start) % 9 == 0)
    places = np.flatnonzero(kept)
    return replace(
        rows,
        matrix=rows.matrix[places],
        transaction_id=rows.transaction_id.take(pa.array(places)),
        card=rows.card[places],
        event_time_ms=rows.event_time_ms[places],
        amount_minor=rows.amount_minor[places],
        is_fraud=rows.is_fraud[places],
    )


def hardly_a_fraud(rows: TrainingSet) -> TrainingSet:
    """Return rows of whose held-out days only forty frauds are known."""
    known = np.flatnonzero(rows.is_fraud)
    rows.is_fraud[known[known >= held_out_from(rows)][40:]] = False
    return rows


def test_the_first_challenger_is_promoted_on_the_absolute_checks(loop: Loop) -> None:
    report = loop.run(week=-1)
    assert report.promoted
    assert report.champion == report.challenger == loop.registry.champion_version()
    assert not report.repeated
    evidence = {check.name: check.evidence for check in report.verdict.checks}
    assert evidence["champion_answers"] == "there is no champion yet"


def test_a_second_week_is_judged_against_the_first(loop: Loop) -> None:
    first, second = loop.run(week=-1), loop.run(week=0)
    assert first.challenger != second.challenger
    assert second.promoted, second.verdict.reasons
    evidence = {check.name: check.evidence for check in second.verdict.checks}
    assert evidence["champion_answers"] == f"{first.challenger} scored the same rows"
    assert loop.registry.served() == [first.challenger, second.challenger]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (blind_to_the_best, "ranks_no_worse"),
        (too_many_labels, "calibrated"),
        (hardly_a_fraud, "enough_mature_frauds"),
    ],
)
def test_a_planted_fault_is_refused_for_what_it_is(loop: Loop, change: Change, reason: str) -> None:
    first = loop.run(week=-1)
    report = loop.run(change=change)
    assert not report.promoted
    assert reason in failed(report)
    assert any(text.startswith(f"{reason}: ") for text in report.verdict.reasons)
    assert loop.registry.champion_version() == report.champion == first.challenger
    assert loop.registry.history()[-1]["event"] == "refused"


def test_a_doubled_start_changes_nothing_and_says_so(loop: Loop) -> None:
    first = loop.run()
    before = sorted((path, path.stat().st_mtime_ns) for path in loop.registry.folder.rglob("*") if path.name != ".lock")
    again = loop.run()
    assert again == replace(first, repeated=True)
    after = sorted((path, path.stat().st_mtime_ns) for path in loop.registry.folder.rglob("*") if path.name != ".lock")
    assert after == before
    assert len(loop.registry.history()) == 1


def test_a_doubled_start_after_a_rollback_does_not_bring_the_challenger_back(loop: Loop) -> None:
    first, second = loop.run(week=-1), loop.run(week=0)
    assert second.promoted
    loop.registry.rollback()
    again = loop.run(week=0)
    assert again.repeated
    assert again.champion == loop.registry.champion_version() == first.challenger


def test_a_refused_iteration_stays_refused_when_doubled(loop: Loop) -> None:
    loop.run(week=-1)
    one, other = loop.run(change=blind_to_the_best), loop.run(change=blind_to_the_best)
    assert not other.promoted
    assert other.repeated
    assert other.verdict == one.verdict
    assert len(loop.registry.history()) == 2


def test_an_iteration_that_died_before_its_verdict_is_finished_by_the_next_start(loop: Loop) -> None:
    first = loop.run()
    loop.registry.champion_link.unlink()
    (loop.registry.folder / "history.jsonl").unlink()
    again = loop.run()
    assert not again.repeated
    assert again.champion == first.challenger
    assert loop.registry.versions() == [first.challenger]


def test_another_seed_is_another_version(loop: Loop) -> None:
    assert loop.run(seed=1).challenger != loop.run(seed=2, again=True).challenger


def test_a_champion_that_does_not_open_is_a_reason_to_refuse_and_stays(loop: Loop) -> None:
    first = loop.run(week=-1)
    path = loop.registry.folder / "versions" / first.challenger / "calibration.json"
    path.write_bytes(path.read_bytes()[:-1])
    report = loop.run(week=0)
    assert failed(report) == {"champion_answers"}
    assert "calibration.json has digest" in report.verdict.reasons[0]
    assert "python -m retraining rollback" in report.verdict.reasons[0]
    assert loop.registry.champion_version() == first.challenger
    assert loop.registry.rollback(report.challenger) == report.challenger


def test_a_champion_that_takes_a_lost_feature_cannot_be_compared_with(loop: Loop) -> None:
    first = loop.run(week=-1)

    def without_the_last(rows: TrainingSet) -> TrainingSet:
        return replace(rows, features=NAMES[:-1], matrix=rows.matrix[:, :-1])

    report = loop.run(change=without_the_last)
    assert failed(report) == {"champion_answers"}
    assert f"{first.challenger} takes 'feature_7'" in report.verdict.reasons[0]


def test_a_step_that_fails_leaves_champion_and_history(loop: Loop) -> None:
    first = loop.run(week=-1)

    def no_labels(rows: TrainingSet) -> TrainingSet:
        return replace(rows, is_fraud=np.zeros(len(rows.is_fraud), np.bool_))

    with pytest.raises(UnfitTrainingSet, match="training has 0 frauds"):
        loop.run(change=no_labels)
    assert loop.registry.champion_version() == first.challenger
    assert len(loop.registry.history()) == 1


def test_a_second_iteration_at_the_same_time_is_sent_away(loop: Loop) -> None:
    def meanwhile(rows: TrainingSet) -> TrainingSet:
        with pytest.raises(RegistryBusy, match="is at work in"):
            Loop(loop.root).run()
        return rows

    assert loop.run(change=meanwhile).promoted
    assert len(loop.registry.history()) == 1


def test_the_champion_scores_as_its_own_library_does(loop: Loop) -> None:
    report = loop.run()
    bundle = loop.registry.version(report.challenger)
    taken = slice(0, 50)
    places: npt.NDArray[np.int64] = np.arange(50)
    scores = champion_scores(bundle, WORLD, taken)
    assert scores.tolist() == champion_scores(bundle, WORLD, places).tolist()
    assert scores.tolist() == [bundle.score(row) for row in WORLD.matrix[taken].astype(np.float64)]


def test_figures_hold_the_reasons(loop: Loop) -> None:
    loop.run(week=-1)
    figures = week_figures(loop.run(change=blind_to_the_best))
    assert figures["promoted"] is False
    assert figures["reasons"]
    assert {check["name"] for check in figures["verdict"]["checks"]} >= {"ranks_no_worse", "champion_answers"}


def a_feature_that_knows_the_label(rows: TrainingSet) -> TrainingSet:
    """Return rows whose last feature was filled from the labels before the held-out days, as a leak does."""
    start = held_out_from(rows)
    rows.matrix[:start, -1] = rows.is_fraud[:start] * 9.0
    return rows


def test_a_leaky_model_is_refused_for_its_leak_and_for_what_it_cannot_do(loop: Loop) -> None:
    first = loop.run(week=-1)
    leak = {"feature": NAMES[-1], "kind": "later rows", "rows": 41, "worst": 9.0, "transaction_id": "t1"}
    proof = {"probes": 100, "leaks": [leak], "untested": [], "rows_compared": 50, "rows_mismatched": 0}
    asked: list[int] = []

    def inspect(rows: TrainingSet) -> tuple[Check, ...]:
        asked.append(len(rows.is_fraud))
        return (leaks_checked(proof),)

    report = loop.run(change=a_feature_that_knows_the_label, inspect=inspect)
    assert {"no_feature_sees_the_future", "calibrated"} <= failed(report)
    assert any("feature_7 changed with later rows in 41 of 100" in reason for reason in report.verdict.reasons)
    assert loop.registry.champion_version() == first.challenger
    assert loop.run(change=a_feature_that_knows_the_label, inspect=inspect).repeated
    assert asked == [report.rows]


def test_a_leak_alone_refuses_what_would_have_been_promoted(loop: Loop) -> None:
    proof = {"probes": 100, "leaks": [], "untested": ["x"], "rows_compared": 50, "rows_mismatched": 3}
    assert loop.run(week=-1, inspect=lambda _rows: (leaks_checked(proof | {"rows_mismatched": 0}),)).promoted
    report = loop.run(inspect=lambda _rows: (leaks_checked(proof),))
    assert failed(report) == {"no_feature_sees_the_future"}
    assert "3 of 50 rows are not what the audited path says" in report.verdict.reasons[0]


def test_every_candidate_has_a_report_that_the_history_names(loop: Loop) -> None:
    first, second = loop.run(week=-1), loop.run(change=blind_to_the_best)
    figures: dict[str, Any] = {}
    for report, outcome, event in zip((first, second), ("promoted", "refused"), loop.registry.history(), strict=True):
        place = loop.registry.folder / "reports" / report.challenger
        told = (place / "report.json").read_bytes()
        assert event["report_sha256"] == report.verdict.report_sha256 == hashlib.sha256(told).hexdigest()
        figures = json.loads(told)
        assert (figures["version"], figures["outcome"], figures["reasons"]) == (
            report.challenger, outcome, list(report.verdict.reasons),
        )  # fmt: skip
        assert {check["name"] for check in figures["checks"]} == {check.name for check in report.verdict.checks}
        assert figures["provenance"]["data_sha256"] in (place / "report.html").read_text(encoding="utf-8")
    area = figures["metrics"]["candidate"]["PR-AUC"], figures["metrics"]["champion"]["PR-AUC"]
    assert area[0]["point"] < area[0]["high"] < area[1]["low"] < area[1]["point"]
    said = f"PR-AUC {area[0]['point']:.3f} against {area[1]['point']:.3f}"
    assert any(said in reason for reason in second.verdict.reasons)


@pytest.mark.parametrize(("lost", "days"), [((75, 82), 7), ((90, 95), 5)])
def test_a_week_that_is_missing_is_named_and_the_champion_stays(loop: Loop, lost: tuple[int, int], days: int) -> None:
    first = loop.run(week=-2)

    def without(rows: TrainingSet) -> TrainingSet:
        day = rows.event_time_ms // DAY
        places = np.flatnonzero((day < lost[0]) | (day >= lost[1]))
        return replace(
            rows,
            matrix=rows.matrix[places],
            transaction_id=rows.transaction_id.take(pa.array(places)),
            card=rows.card[places],
            event_time_ms=rows.event_time_ms[places],
            amount_minor=rows.amount_minor[places],
            is_fraud=rows.is_fraud[places],
        )

    with pytest.raises(MissingDays, match=f"{days} of 25 days have no transaction"):
        loop.run(change=without)
    assert loop.registry.champion_version() == first.challenger
    assert len(loop.registry.history()) == 1


def test_one_class_only_is_refused_before_a_fit(loop: Loop) -> None:
    first = loop.run(week=-1)

    def only_frauds(rows: TrainingSet) -> TrainingSet:
        return replace(rows, is_fraud=np.ones(len(rows.is_fraud), np.bool_))

    with pytest.raises(UnfitTrainingSet, match="at least 30 of each class"):
        loop.run(change=only_frauds)
    assert loop.registry.champion_version() == first.challenger


def test_another_day_of_the_same_calendar_week_finds_its_verdict_and_another_week_does_not(loop: Loop) -> None:
    # As-of day 100 is Saturday, 11 April 1970: Sunday is of the same week, Monday of the next.
    first = loop.run()
    assert loop.run(day=1, change=late_data) == replace(first, repeated=True)
    assert loop.run(change=late_data) == replace(first, repeated=True)
    assert len(loop.registry.history()) == 1
    monday = loop.run(day=2)
    assert not monday.repeated
    assert len(loop.registry.history()) == 2


def test_again_judges_a_week_that_has_its_verdict(loop: Loop) -> None:
    first = loop.run()
    second = loop.run(change=late_data, again=True)
    assert not second.repeated
    assert second.challenger != first.challenger
    assert len(loop.registry.history()) == 2


def late_data(rows: TrainingSet) -> TrainingSet:
    """Return rows of which a label arrived that was not there before."""
    rows.is_fraud[np.flatnonzero(~rows.is_fraud)[:1]] = True
    return rows


def blind_to_a_type(rows: TrainingSet) -> LabelFacts:
    """Return types by the fourth feature: what it says of frauds is what the challenger will be blind to."""
    kind = np.where(rows.is_fraud & (rows.matrix[:, 3] > 1.0), "rare", "usual").astype(object)
    return LabelFacts(np.ones(len(kind), np.bool_), kind, 0.9)


def test_a_challenger_blind_to_one_type_is_refused_for_it_through_the_loop(loop: Loop) -> None:
    first = loop.run(week=-1, facts=blind_to_a_type)
    assert first.promoted, first.verdict.reasons

    def untaught(rows: TrainingSet) -> TrainingSet:
        start = held_out_from(rows)
        taught = rows.is_fraud[:start] & (rows.matrix[:start, 3] > 1.0)
        rows.is_fraud[:start] = rows.is_fraud[:start] & ~taught
        return rows

    report = loop.run(change=untaught, facts=blind_to_a_type)
    assert "catches_every_type" in failed(report)
    assert any("of rare the catch moved by -" in reason for reason in report.verdict.reasons)
    assert loop.registry.champion_version() == first.challenger


def test_without_types_the_check_says_that_nothing_was_compared(loop: Loop) -> None:
    said = {check.name: check for check in loop.run().verdict.checks}
    assert said["catches_every_type"].word == "not asked"
    assert said["catches_every_type"].evidence == "not asked: labels carry no type"
    assert said["labels_mature"].word == "not asked"
    assert loop.registry.history()[-1]["checks"][-2]["asked"] is False


def test_a_smaller_review_budget_holds_the_champion_to_it_too(loop: Loop) -> None:
    loop.run(week=-1)
    report = loop.run(plan=replace(PLAN, review_share=0.001, insult_share=0.0001))
    (check,) = (one for one in report.verdict.checks if one.name == "catches_at_its_thresholds")
    assert check.passed, check.evidence
    assert "the champion" in check.evidence


def test_thresholds_beyond_their_budget_are_refused(loop: Loop) -> None:
    loop.run(week=-1)

    def quiet_validation(rows: TrainingSet) -> TrainingSet:
        validation = rows.between(*PLAN.edges(rows.as_of_ms)[1:3])
        rows.matrix[validation, :3] -= 1.0
        return rows

    report = loop.run(change=quiet_validation, plan=replace(PLAN, review_share=0.02))
    assert "keeps_its_budgets" in failed(report)


def test_rows_of_blocked_cards_are_left_out_of_the_gate(loop: Loop) -> None:
    def blocked(rows: TrainingSet) -> LabelFacts:
        return LabelFacts(rows.card % 5 != 0)

    report = loop.run(facts=blocked)
    held = WORLD.between(*PLAN.edges(AS_OF_MS)[2:])
    free = WORLD.card[held] % 5 != 0
    said = next(check.evidence for check in report.verdict.checks if check.name == "enough_mature_frauds")
    assert f"{int(WORLD.is_fraud[held][free].sum())} mature frauds in {int(free.sum())} held-out rows" in said
    assert f"{int((~free).sum())} rows of cards known as compromised are left out" in said


def test_a_label_delay_shorter_than_labels_take_is_refused(loop: Loop) -> None:
    report = loop.run(facts=lambda rows: LabelFacts(np.ones(len(rows.is_fraud), np.bool_), None, 0.2))
    assert failed(report) == {"labels_mature"}
    assert "20% of the labels that arrive do so within the 5 days" in report.verdict.reasons[0]


def test_weights_count_in_the_gate_and_their_worth_is_said(loop: Loop) -> None:
    held_weights: list[npt.NDArray[np.float64]] = []

    def weighed(rows: TrainingSet) -> TrainingSet:
        weights = np.ones(len(rows.is_fraud))
        weights[np.flatnonzero(rows.is_fraud)[::10]] = 20.0
        weights[::7] = 0.0
        held_weights.append(weights[rows.between(*PLAN.edges(AS_OF_MS)[2:])])
        return replace(rows, weights=weights)

    report = loop.run(change=weighed)
    place = loop.registry.folder / "reports" / report.challenger / "report.json"
    held = json.loads(place.read_text())["held_out"]
    (weights,) = held_weights
    assert held["effective_rows"] == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert held["rows"] == int((weights > 0).sum())
    said = next(check.evidence for check in report.verdict.checks if check.name == "enough_mature_frauds")
    assert f"worth {held['effective_frauds']:.0f} frauds" in said


def test_the_report_says_what_reviewing_and_declining_cost_and_who_signed(loop: Loop) -> None:
    loop.run(week=-1)
    report = loop.run(facts=lambda rows: LabelFacts(np.ones(len(rows.is_fraud), np.bool_)))
    place = loop.registry.folder / "reports" / report.challenger
    figures = json.loads((place / "report.json").read_text())
    held = WORLD.between(*PLAN.edges(AS_OF_MS)[2:])
    work = figures["work"]["candidate"]
    scores = champion_scores(loop.registry.version(report.challenger), WORLD, held)
    fraud = WORLD.is_fraud[held]
    assert work["expected_calibration_error"] == pytest.approx(reliability(scores, fraud).expected_error)
    assert work["reviews_a_day"] == A_DAY * PLAN.review_share
    assert 0.0 < work["card_precision"] <= 1.0
    assert 0.0 < work["least_cost"] <= work["cost_at_own_decline_threshold"] < work["cost_of_approving_all"]
    signed = figures["signed_off"]
    checks = report.verdict.checks
    assert signed["not_asked"] == [check.name for check in checks if not check.asked] != []
    assert signed["passed"] == signed["asked"] == sum(check.asked for check in checks)
    assert f"Signed off by the gate: {signed['passed']} of " in (place / "report.html").read_text()
