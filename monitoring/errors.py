"""What can go wrong when looking at a running system, each a fact with a stable code."""

from fraud.errors import TollgateError


class UnreadableDecisionLog(TollgateError):
    """A decision log holds something that is no decision."""

    code = "unreadable_decision_log"
