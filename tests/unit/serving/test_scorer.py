"""The scorer with a store that answers as told: which tier scores, what overrides, and that the log says all of it."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hiredis
import msgspec
import numpy as np
import pytest

from fraud.bundle import open_bundle
from fraud.control_group import ControlGroup
from fraud.decline_cap import DeclineCap
from fraud.errors import StoreUnavailable
from fraud.features import FEATURE_NAMES, Profiles, evaluate
from fraud.policy import Decision, Policy, Segment, TierPolicy
from fraud.ring import new_scratch
from fraud.settings import Settings
from fraud.tiers import FALLBACKS, Tier, owner, tier_for
from fraud.transaction import Transaction
from fraud.velocity import FloatArray, entity_key, newest_time_ms, transaction_change, update
from fraud.windows import ENTITIES, Entity
from serving.connection import Reply
from serving.decisions import DecisionLog
from serving.lists import ListEntry, make_lists
from serving.log_reading import read_log
from serving.metrics import Metrics
from serving.model import prepare_model
from serving.overrides import Overrides
from serving.rescore import rescore
from serving.scorer import Scorer
from serving.store import OnlineStore
from stores.layout import Value, encode_timestamp, encode_value
from stores.plan import CompiledReader
from tests.support.bundles import bundle_files, read_plan, with_policy
from tests.support.scorers import NOW, history, payment

PLAN = read_plan()
CARD = (100.0, 1500.0, 0.5)
MERCHANT = (9.0, 2500.0, 20.0)
PROFILE_VALUES: dict[str, Value] = {
    "card_home_country": "FR",
    "card_age_days": 100,
    "card_amount_median_30d": 1500.0,
    "card_online_share_30d": 0.5,
    "merchant_age_days": 9,
    "merchant_amount_median_30d": 2500.0,
    "merchant_card_distinct_30d": 20,
}
POLICY = Policy(
    "tiers",
    0.3,
    0.5,
    tiers={"partial": TierPolicy(0.2, 0.4), "request_only": TierPolicy(0.2, 0.3, {"decline": "review"})},
)
FILES = with_policy(bundle_files(tiers=FALLBACKS), POLICY)
BUNDLE = open_bundle(FILES)


def states_of(transactions: Sequence[Transaction]) -> dict[tuple[Entity, str], bytes]:
    states: dict[tuple[Entity, str], bytes] = {}
    for earlier in transactions:
        for entity in ENTITIES:
            key = entity_key(entity, earlier)
            if key is not None:
                states[entity, key] = update(
                    entity, states.get((entity, key), b""), transaction_change(entity, earlier)
                )[0]
    return states


STATES = states_of(history(120))


class Answers(OnlineStore):
    """A store that answers each read from ``states``, with an error for the entities that are down."""

    def __init__(self) -> None:
        self.states = STATES
        self.down: tuple[Entity, ...] = ()
        self.away = False
        self.asked: list[Transaction] = []
        self.sends = 0

    async def start(self) -> None:
        """Nothing to connect."""

    async def close(self) -> None:
        """Nothing to disconnect."""

    def fetch(self, reader: CompiledReader, keys: Mapping[str, str]) -> "asyncio.Future[list[Reply]]":
        self.sends += 1
        if self.away:
            raise StoreUnavailable("away")
        future: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
        future.set_result([self._reply(planned) for planned in PLAN.entities])
        return future

    def answered(self) -> None:
        """Nothing to count."""

    def failed(self) -> None:
        """Nothing to count."""

    def _reply(self, planned: Any) -> Reply:
        if planned.entity in self.down:
            return hiredis.ReplyError("LOADING")
        state = self.states.get((planned.entity, entity_key(planned.entity, self.asked[-1]) or ""))
        if state is None:
            return [None] * (len(planned.fields) + len(planned.views))
        values: dict[str, Value] = {
            **PROFILE_VALUES,
            f"{planned.entity}_state": state,
            f"{planned.entity}_revision": 3,
        }
        newest = encode_timestamp(newest_time_ms(planned.entity, state) or 0)
        return [encode_value(values[held.feature]) for held in planned.fields] + [newest] * len(planned.views)


@dataclass
class World:
    """A scorer, its store and its log."""

    scorer: Scorer
    store: Answers
    metrics: Metrics
    overrides: Overrides
    log: DecisionLog
    folder: Path

    def decide(self, transaction: Transaction, decision_id: str = "d") -> Decision:
        self.store.asked.append(transaction)
        return asyncio.run(self.scorer.decide(transaction, decision_id))

    def logged(self) -> Any:
        self.log.flush()
        return [line for line in read_log(self.folder) if line is not None]


def world(folder: Path, files: dict[str, bytes] = FILES) -> World:
    metrics = Metrics()
    store = Answers()
    overrides = Overrides(metrics)
    log = DecisionLog(folder, metrics=metrics)
    scorer = Scorer(
        prepare_model(files), store=store, log=log, metrics=metrics, settings=Settings(), overrides=overrides
    )
    return World(scorer, store, metrics, overrides, log, folder)


@pytest.fixture
def served(tmp_path: Path) -> World:
    return world(tmp_path)


def whole_vector(transaction: Transaction) -> FloatArray:
    states = {entity: STATES.get((entity, entity_key(entity, transaction) or ""), b"") for entity in ENTITIES}
    return evaluate(transaction, states, Profiles("FR", CARD, MERCHANT), new_scratch())


SUBSETS = [subset for size in range(len(ENTITIES) + 1) for subset in itertools.combinations(ENTITIES, size)]


@pytest.mark.parametrize("unread", SUBSETS, ids=lambda unread: "+".join(unread) or "none")
def test_what_is_unread_is_null_and_the_fallback_fitted_to_that_scores(
    served: World, unread: tuple[Entity, ...]
) -> None:
    served.store.down = unread
    transaction = payment(3)
    decision = served.decide(transaction)
    tier = tier_for(unread, behind=False)
    assert decision.tier == tier
    expected = whole_vector(transaction)
    for index, name in enumerate(FEATURE_NAMES):
        if owner(name) in unread:
            expected[index] = np.nan
    (line,) = served.logged()
    assert np.frombuffer(line.vector, "<f8").tobytes() == expected.tobytes()
    model = BUNDLE if tier == "full" else BUNDLE.fallbacks[tier]
    row = expected[[FEATURE_NAMES.index(name) for name in model.features]]
    assert decision.score == model.score(row)
    assert decision.outcome == POLICY.outcome(decision.score, degraded=bool(unread), tier=tier)
    assert served.metrics.tiers.values == {(BUNDLE.version, tier): 1}
    assert served.store.sends == 1


def test_a_card_a_device_and_a_merchant_never_seen_are_scored_by_the_full_model(served: World) -> None:
    decision = served.decide(payment(1, card_id="new", device_id="new", merchant_id="new"))
    assert (decision.tier, decision.missing) == ("full", ())


def test_without_a_store_the_transaction_alone_is_scored_and_nobody_is_declined(served: World) -> None:
    served.store.away = True
    decisions = [served.decide(payment(number)) for number in range(40)]
    assert {decision.tier for decision in decisions} == {"request_only"}
    assert {decision.outcome for decision in decisions} <= {"approve", "review"}
    strict = TierPolicy(1e-9, 1e-9)
    served.scorer.model = prepare_model(with_policy(FILES, replace(POLICY, tiers={"request_only": strict})))
    assert served.decide(payment(1)).outcome == "decline"


def test_while_the_stream_is_behind_no_velocity_is_used(served: World) -> None:
    served.scorer._lag.behind = True
    decision = served.decide(payment(3))
    assert (decision.tier, decision.missing) == ("no_velocity", ())
    served.store.down = ("card",)
    assert served.decide(payment(3)).tier == "request_only"


def test_a_store_that_was_emptied_is_noticed_and_its_return_too(served: World) -> None:
    payments = [payment(number, merchant_id=f"shop{number}") for number in range(40)]
    served.store.states = states_of(payments)
    assert {served.decide(transaction).tier for transaction in payments} == {"full"}
    served.store.states = {}
    assert [served.decide(transaction).tier for transaction in payments][10:] == ["no_velocity"] * 30
    served.store.states = states_of(payments)
    assert [served.decide(transaction).tier for transaction in payments][-5:] == ["full"] * 5


def test_a_bundle_without_fallbacks_scores_missing_values_with_its_one_model(tmp_path: Path) -> None:
    files = bundle_files()
    served, bundle = world(tmp_path, files), open_bundle(files)
    for down in SUBSETS:
        served.store.down = down
        decision = served.decide(payment(3), "-".join(down) or "none")
        assert decision.tier == "full"
    for line in served.logged():
        assert line.score == bundle.score(np.frombuffer(line.vector, "<f8"))


def test_every_tier_is_made_again_bit_for_bit(served: World) -> None:
    for number, down in enumerate(SUBSETS * 3):
        served.store.down = down
        served.scorer._lag.behind = number % 5 == 0
        served.decide(payment(number), f"d{number}")
    tiers = {line.tier for line in served.logged()}
    assert tiers == {"full", *FALLBACKS}
    found = rescore(read_log(served.folder), {BUNDLE.version: BUNDLE})
    assert (found.compared, found.different, found.unreadable) == (len(SUBSETS) * 3, 0, 0)


def test_a_changed_tier_in_the_log_is_found(served: World) -> None:
    served.store.down = ("card",)
    served.decide(payment(3))
    served.log.flush()
    (file,) = served.folder.iterdir()
    text = file.read_bytes()
    tiers: tuple[Tier, ...] = ("full", "no_velocity")
    for tier in tiers:
        file.write_bytes(text.replace(b'"tier":"partial"', f'"tier":"{tier}"'.encode()))
        assert rescore(read_log(served.folder), {BUNDLE.version: BUNDLE}).different == 1


def test_what_fails_closed_or_open_says_so_before_the_reasons_of_the_score(tmp_path: Path) -> None:
    closed = world(tmp_path / "closed", with_policy(bundle_files(), Policy("p", 1.0, 1.0, missing_outcome="review")))
    assert closed.decide(payment(3)).reasons == ()
    closed.store.down = ("card",)
    decision = closed.decide(payment(3))
    assert (decision.outcome, decision.reasons[0].code) == ("review", "FAILED_CLOSED")
    assert decision.reasons[0].text == "review instead of approve: card_velocity, card_profile could not be read"
    softened = Policy("p", 1e-9, 1e-9, tiers={"partial": TierPolicy(1e-9, 1e-9, {"decline": "review"})})
    opened = world(tmp_path / "open", with_policy(bundle_files(tiers=FALLBACKS), softened))
    opened.store.down = ("device",)
    decision = opened.decide(payment(3))
    assert (decision.outcome, decision.reasons[0].code) == ("review", "FAILED_OPEN")
    assert all(reason.weight > 0.0 for reason in decision.reasons[1:])


def served_with(folder: Path, **changes: Any) -> World:
    """Return a scorer whose policy declines everything but for ``changes``."""
    policy = replace(Policy("strict", 1e-9, 1e-9, decline_cap=DeclineCap(share=1.0)), **changes)
    return world(folder, with_policy(bundle_files(), policy))


def entry(entity: Any, key: str, name: Any, expires_ms: int = 2**50) -> ListEntry:
    return ListEntry(entity=entity, key=key, list=name, reason="r", added_by="a", added_ms=1, expires_ms=expires_ms)


@pytest.mark.parametrize(("entity", "key"), [("card", "c1"), ("device", "d1"), ("merchant", "m1"), ("ip", "i1")])
def test_a_list_decides_and_is_named_beside_the_score(tmp_path: Path, entity: str, key: str) -> None:
    served = served_with(tmp_path)
    transaction = payment(1, ip="i1")
    plain = served.decide(transaction)
    assert (plain.outcome, plain.override) == ("decline", "")
    served.overrides.lists = make_lists([entry(entity, key, "allow")])
    allowed = served.decide(transaction)
    assert (allowed.outcome, allowed.override, allowed.scored_outcome) == ("approve", "allow_list", "decline")
    assert allowed.score == plain.score
    served.overrides.lists = make_lists([entry(entity, key, "allow"), entry("card", "c1", "block")])
    blocked = served.decide(transaction)
    assert (blocked.outcome, blocked.override, blocked.propensity) == ("decline", "block_list", 1.0)
    assert blocked.reasons[0].code == "BLOCK_LISTED"
    assert blocked.reasons[0].text == "the card is on the block list"
    assert len(blocked.reasons) > 1
    names = {"ip": "network address"}
    assert [reason.text for reason in allowed.reasons] == [f"the {names.get(entity, entity)} is on the allow list"]
    served.overrides.lists = make_lists([entry(entity, key, "allow", expires_ms=NOW // 2)])
    assert served.decide(transaction).override == ""
    assert [line.override for line in served.logged()] == ["", "allow_list", "block_list", ""]
    bundle = served.scorer.model.bundle
    assert rescore(read_log(served.folder), {bundle.version: bundle}).different == 0


def test_a_segments_thresholds_are_used_and_named(tmp_path: Path) -> None:
    served = served_with(tmp_path, segments=(Segment("groceries", 0.999, 1.0, merchant_categories=(5411,)),))
    groceries, games = served.decide(payment(1)), served.decide(payment(1, merchant_category=7995))
    assert (groceries.outcome, groceries.segment) == ("approve", "groceries")
    assert (games.outcome, games.segment) == ("decline", "")
    bundle = served.scorer.model.bundle
    served.log.flush()
    assert rescore(read_log(served.folder), {bundle.version: bundle}).different == 0


def test_declines_beyond_the_cap_become_reviews_and_are_counted(tmp_path: Path) -> None:
    served = served_with(tmp_path, decline_cap=DeclineCap(share=0.5, least_decisions=20, least_declines=20))
    decisions = [served.decide(payment(number), f"d{number}") for number in range(50)]
    assert [decision.outcome for decision in decisions] == ["decline"] * 19 + ["review"] * 31
    assert {decision.scored_outcome for decision in decisions} == {"decline"}
    assert [decision.reasons[0].code == "DECLINES_CAPPED" for decision in decisions] == [False] * 19 + [True] * 31
    assert {labels[1]: count for labels, count in served.metrics.overrides.values.items()} == {"decline_cap": 31}
    assert b"tollgate_decline_cap 2" in served.metrics.render()
    bundle = served.scorer.model.bundle
    served.log.flush()
    assert rescore(read_log(served.folder), {bundle.version: bundle}).different == 0


def test_the_control_group_lets_its_share_through_under_its_caps_and_an_audit_agrees(tmp_path: Path) -> None:
    group = ControlGroup(0.25, "salt", amount_at_most=3000, daily_amount=60_000)
    served = served_with(tmp_path, control_group=group)
    decisions = [served.decide(payment(number), f"d{number}") for number in range(300)]
    drawn = [decision for decision in decisions if decision.override == "control_group"]
    assert 10 < len(drawn) < 120
    amounts = {payment(number).transaction_id: payment(number).amount_minor for number in range(300)}
    assert sum(amounts[decision.transaction_id] for decision in drawn) <= 60_000
    assert max(amounts[decision.transaction_id] for decision in drawn) <= 3000
    assert {(d.outcome, d.propensity) for d in drawn} == {("approve", 0.25)}
    assert {tuple(reason.code for reason in d.reasons) for d in drawn} == {("CONTROL_GROUP",)}
    for decision in decisions:
        if amounts[decision.transaction_id] > 3000:
            assert (decision.outcome, decision.propensity) == ("decline", 1.0)
    again = served.decide(payment(int(drawn[0].transaction_id[1:])), "again")
    assert (again.outcome, again.override, again.propensity) == ("approve", "control_group", 0.25)
    bundle = served.scorer.model.bundle
    served.log.flush()
    found = rescore(read_log(served.folder), {bundle.version: bundle})
    assert (found.compared, found.different) == (301, 0)


def test_an_approval_that_the_lot_does_not_give_is_found_by_an_audit(tmp_path: Path) -> None:
    group = ControlGroup(0.001, "salt", amount_at_most=10_000, daily_amount=60_000)
    served = served_with(tmp_path, control_group=group)
    decision = served.decide(payment(1))
    assert (decision.outcome, decision.propensity) == ("decline", 0.999)
    (line,) = served.logged()
    forged = msgspec.structs.replace(line, outcome="approve", override="control_group", propensity=0.001)
    (file,) = served.folder.iterdir()
    file.write_bytes(msgspec.json.encode(forged) + b"\n")
    bundle = served.scorer.model.bundle
    assert rescore(read_log(served.folder), {bundle.version: bundle}).different == 1


def test_nothing_is_drawn_from_what_a_list_blocks(tmp_path: Path) -> None:
    group = ControlGroup(0.5, "salt", amount_at_most=10_000, daily_amount=10**9)
    served = served_with(tmp_path, control_group=group)
    served.overrides.lists = make_lists([entry("merchant", f"m{number}", "block") for number in range(7)])
    decisions = [served.decide(payment(number)) for number in range(60)]
    assert {(d.outcome, d.override, d.propensity) for d in decisions} == {("decline", "block_list", 1.0)}
    assert served.overrides.allowance.spent == 0
