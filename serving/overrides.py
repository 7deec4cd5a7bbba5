"""What may change an outcome after the policy, in this order: lists, the cap on declines, the control group.

Lists are people's word, so nothing comes after them and what they decide is not counted towards the cap. The score and
the policy's own outcome stand in the decision beside whatever overrode it.
"""

from typing import Final, NamedTuple

from fraud.control_group import Allowance
from fraud.decline_cap import CapState, DeclineBreaker
from fraud.policy import OUTCOMES, Outcome, Override, Policy
from fraud.transaction import Transaction
from fraud.windows import DAY
from serving.lists import NOTHING, Lists
from serving.logs import note, warn
from serving.metrics import Gauge, Metrics

_EVENTS: Final[dict[CapState, str]] = {
    "open": "decline_cap_opened",
    "half_open": "decline_cap_half_opened",
    "closed": "decline_cap_closed",
}
_STATES: Final[dict[CapState, float]] = {"closed": 0.0, "half_open": 1.0, "open": 2.0}


class Settled(NamedTuple):
    """The outcome to answer, what overrode the policy's, and the probability with which it was to be this one."""

    outcome: Outcome
    override: Override
    propensity: float
    listed: str = ""
    """The kind of entity that a list names."""


_AS_SCORED: Final = {outcome: Settled(outcome, "", 1.0) for outcome in OUTCOMES}
_CAPPED: Final = Settled("review", "decline_cap", 1.0)


class Overrides:
    """Settles outcomes; keeps the cap's window and the control group's allowance of this process.

    ``lists`` may be replaced at any time by another thread. One of ``workers`` on a machine has its part of what the
    control group may cost.
    """

    def __init__(self, metrics: Metrics, *, workers: int = 1) -> None:
        self.lists: Lists = NOTHING
        self.breaker = DeclineBreaker()
        self.allowance = Allowance(workers)
        about = "State of the cap on declines: 0 closed, 1 half open, 2 open."
        metrics.gauges.append(Gauge("tollgate_decline_cap", about, lambda: {(): _STATES[self.breaker.state]}))

    def settle(
        self, transaction: Transaction, scored: Outcome, policy: Policy, *, now_s: float, now_ms: int
    ) -> Settled:
        """Return what to answer.

        Parameters
        ----------
        scored
            What the policy says.
        now_s
            Seconds of a clock that does not go back.
        now_ms
            Time of the decision, epoch ms.
        """
        if self.lists.size:
            listed = self.lists.find(transaction, now_ms)
            if listed is not None:
                if listed.list == "block":
                    return Settled("decline", "block_list", 1.0, listed.entity)
                return Settled("approve", "allow_list", 1.0, listed.entity)
        if scored != "decline":
            self._stands(policy, now_s)
            return _AS_SCORED[scored]
        if not self._stands(policy, now_s, declined=transaction.transaction_id):
            return _CAPPED
        return self._drawn(transaction, policy, now_ms // DAY) if policy.control_group.share else _AS_SCORED[scored]

    def _stands(self, policy: Policy, now_s: float, *, declined: str | None = None) -> bool:
        breaker = self.breaker
        before = breaker.state
        stands = breaker.admits(
            policy.decline_cap, decline=declined is not None, now_s=now_s, transaction_id=declined or ""
        )
        if breaker.state != before:
            tell = warn if breaker.state == "open" else note
            tell(_EVENTS[breaker.state], usual=round(breaker.history, 5))
        return stands

    def _drawn(self, transaction: Transaction, policy: Policy, day: int) -> Settled:
        group, amount = policy.control_group, transaction.amount_minor
        if not self.allowance.covers(group, transaction.transaction_id, amount, day):
            return _AS_SCORED["decline"]
        if group.lot(transaction.transaction_id) < group.share:
            self.allowance.take(transaction.transaction_id, amount, day)
            return Settled("approve", "control_group", group.share)
        return Settled("decline", "", 1.0 - group.share)
