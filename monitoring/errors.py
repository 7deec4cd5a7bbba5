"""What can go wrong when looking at a running system, each a fact with a stable code."""

from fraud.errors import TollgateError


class UnreadableDecisionLog(TollgateError):
    """A decision log holds something that is no decision."""

    code = "unreadable_decision_log"


class UnreadableAppliedLog(TollgateError):
    """The stream's log of applied changes is missing or broken."""

    code = "unreadable_applied_log"


class NothingToCompare(TollgateError):
    """There is no row to prove anything about."""

    code = "nothing_to_compare"


class FeastNotApplied(TollgateError):
    """``feast apply`` failed."""

    code = "feast_not_applied"


class ProcessFailed(TollgateError):
    """A process that a proof needs ended early or said something unexpected."""

    code = "process_failed"
