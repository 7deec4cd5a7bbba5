"""The scorer: from a transaction to a decision, in one function that reads top to bottom."""

import asyncio
import contextlib
import time
from typing import Final

import numpy as np

from fraud.errors import InvalidState
from fraud.features import FEATURE_NAMES, evaluate
from fraud.policy import Decision
from fraud.policy_reasons import fallback_reason, override_reason
from fraud.ring import new_scratch
from fraud.settings import Settings
from fraud.tiers import FULL
from fraud.transaction import Transaction
from fraud.vector_names import VectorLayout
from fraud.velocity import FloatArray
from fraud.windows import ENTITIES, VELOCITY_FEATURES, Entity
from serving.budget import Budget
from serving.decisions import DecisionLog, Made
from serving.lag import StreamLag
from serving.logs import Seldom, note, warn
from serving.metrics import Metrics
from serving.model import Model
from serving.online import Online, nothing_read, read_online, without_invalid_states
from serving.overrides import Overrides
from serving.shadow import Shadow
from serving.store import OnlineStore
from serving.writing import WriteThrough

MERCHANT_VELOCITY: Final = "merchant_velocity"
_PLACES: Final = {name: index for index, name in enumerate(FEATURE_NAMES)}
_OF_ENTITY: Final[dict[Entity, slice]] = {
    entity: slice(_PLACES[VELOCITY_FEATURES[entity][0].name], _PLACES[VELOCITY_FEATURES[entity][-1].name] + 1)
    for entity in ENTITIES
}


class Scorer:
    """Decides transactions with the model that is in service at that moment.

    ``model`` may be replaced at any time by another thread: a decision takes one reference and keeps it.
    """

    def __init__(
        self,
        model: Model,
        *,
        store: OnlineStore,
        log: DecisionLog | None,
        metrics: Metrics,
        settings: Settings,
        writer: WriteThrough | None = None,
        overrides: Overrides | None = None,
        shadow: Shadow | None = None,
    ) -> None:
        self.model = model
        self._overrides = Overrides(metrics) if overrides is None else overrides
        self._lag = StreamLag(settings.velocity_stale_after_s)
        self._store = store
        self._log = log
        self._writer = writer
        self._shadow = shadow
        self._metrics = metrics
        self._stale_after_ms = settings.stale_after_s * 1000
        self._store_timeout_s = settings.store_timeout_ms / 1000.0
        self._scratch = new_scratch()
        self._seldom = Seldom()

    async def decide(
        self, transaction: Transaction, decision_id: str, *, explain: bool = False, budget: Budget | None = None
    ) -> Decision:
        """Turn one transaction into one decision; degrades rather than fails.

        Parameters
        ----------
        decision_id
            Names the decision in the log.
        explain
            Give reasons for an approval too.
        budget
            Of the request it came with; null for as long as the store may take.
        """
        begun = time.perf_counter()
        model = self.model
        policy = model.bundle.policy
        online = await self._read(transaction, model, None if budget is None else budget.left_to_read(begun))
        read = time.perf_counter()
        vector, online = self._vector(transaction, online, model)
        scoring = model.scoring(online.unread, behind=self._is_behind(transaction, online, begun))
        row = scoring.row(vector)
        score = scoring.score(row)
        segment = policy.segment(transaction, scoring.tier) if policy.segments else None
        scored = policy.outcome(score, degraded=bool(online.missing), tier=scoring.tier, segment=segment)
        decided_ms = time.time_ns() // 1_000_000
        outcome, override, propensity, listed = self._overrides.settle(
            transaction, scored, policy, now_s=begun, now_ms=decided_ms
        )
        reasons = scoring.reasons(transaction, vector, row) if explain or outcome != "approve" else ()
        if override or online.missing or scoring.tier != FULL:
            by_score = policy.by_score(score, tier=scoring.tier, segment=segment)
            fallback = fallback_reason(by_score, scored, online.missing, scoring.tier)
            own = (override_reason(override, listed), fallback)
            reasons = (*(reason for reason in own if reason is not None), *reasons)
        decision = Decision(
            decision_id,
            transaction.transaction_id,
            outcome,
            score,
            reasons,
            model.bundle.version,
            policy.version,
            online.missing,
            online.stale,
            scoring.tier,
            "" if segment is None else segment.name,
            scored,
            override,
            propensity,
        )
        self._record(transaction, vector, online, decision, begun, read, decided_ms, model.layout)
        return decision

    async def _read(self, transaction: Transaction, model: Model, within_s: float | None) -> Online:
        """Read what the online store knows, unless there is no time; never waits longer than ``within_s``."""
        if within_s is None or within_s >= self._store_timeout_s:
            return await read_online(transaction, model, self._store, stale_after_ms=self._stale_after_ms)
        if within_s > 0.0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    return await read_online(transaction, model, self._store, stale_after_ms=self._stale_after_ms)
        self._metrics.reads_skipped.add()
        self._seldom.warn("budget_spent_before_reading")
        return nothing_read(model)

    def _is_behind(self, transaction: Transaction, online: Online, now_s: float) -> bool:
        """Return whether velocity is older than allowed, by what was just read and what was before it."""
        if MERCHANT_VELOCITY not in online.stored_times:
            return self._lag.behind
        changed = self._lag.saw(
            transaction.merchant_id, transaction.event_time_ms, online.stored_times[MERCHANT_VELOCITY], now_s=now_s
        )
        if changed is not None:
            tell = warn if changed else note
            tell("velocity_found_stale" if changed else "velocity_found_fresh")
        return self._lag.behind

    def _vector(self, transaction: Transaction, online: Online, model: Model) -> tuple[FloatArray, Online]:
        """Return the feature vector, and what it was made from when a state turned out to be none."""
        try:
            vector = evaluate(transaction, online.states, online.profiles, self._scratch)
        except InvalidState:
            online = without_invalid_states(online, model)
            vector = evaluate(transaction, online.states, online.profiles, self._scratch)
        for entity in online.unread:
            vector[_OF_ENTITY[entity]] = np.nan  # unknown, where no state would say "never seen"
        return vector, online

    def _record(
        self,
        transaction: Transaction,
        vector: FloatArray,
        online: Online,
        decision: Decision,
        begun: float,
        read: float,
        decided_ms: int,
        layout: VectorLayout,
    ) -> None:
        metrics, now, version = self._metrics, time.perf_counter(), decision.model_version
        metrics.latency.add(read - begun, (version, "store"))
        metrics.latency.add(now - read, (version, "score"))
        metrics.latency.add(now - begun, (version, "total"))
        metrics.scores.add(decision.score, (version,))
        degraded = "true" if decision.missing else "false"
        metrics.decisions.add((version, decision.policy_version, decision.outcome, degraded))
        metrics.tiers.add((version, decision.tier))
        if decision.override:
            metrics.overrides.add((version, decision.override))
        for view in decision.missing:
            metrics.missing.add((version, view))
        for view in decision.stale:
            metrics.stale.add((version, view))
        if self._writer is not None:
            self._writer.offer(transaction, online)
        made = Made(transaction, vector, online, decision, decided_ms, now - begun, layout)
        if self._log is not None:
            self._log.append(made)
        if self._shadow is not None:
            self._shadow.offer(made)
