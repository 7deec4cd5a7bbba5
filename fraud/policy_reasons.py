"""Reasons of the policy's own: why an outcome is not what the score alone would have it.

They stand before those of the score and weigh nothing, for no log-odds are theirs. Codes are stable.
"""

from collections.abc import Sequence
from typing import Final

from fraud.policy import OUTCOMES, Outcome, Override, Reason
from fraud.tiers import FULL, Tier

_ENTITIES: Final = {"card": "card", "device": "device", "ip": "network address", "merchant": "merchant"}
_CAPPED: Final = Reason("DECLINES_CAPPED", "too many payments would be declined to be believed, so people look", 0.0)
_DRAWN: Final = Reason("CONTROL_GROUP", "let through by lot, to learn what declining does", 0.0)


def override_reason(override: Override, listed: str = "") -> Reason | None:
    """Return the reason for an override; null for none.

    Parameters
    ----------
    listed
        Which entity a list names.

    Examples
    --------
    >>> override_reason("block_list", "card")
    Reason(code='BLOCK_LISTED', text='the card is on the block list', weight=0.0)
    """
    if override == "decline_cap":
        return _CAPPED
    if override == "control_group":
        return _DRAWN
    if not override:
        return None
    code, name = ("BLOCK_LISTED", "block") if override == "block_list" else ("ALLOW_LISTED", "allow")
    return Reason(code, f"the {_ENTITIES.get(listed, 'payment')} is on the {name} list", 0.0)


def fallback_reason(by_score: Outcome, scored: Outcome, missing: Sequence[str], tier: Tier) -> Reason | None:
    """Return the reason for what the policy makes of an outcome when not all is known; null when it lets it stand.

    Parameters
    ----------
    by_score
        What the thresholds say.
    scored
        What the policy says: harsher when it fails closed, milder when it fails open.
    missing
        Views that could not be read.
    tier
        Whose model scored it.

    Examples
    --------
    >>> fallback_reason("approve", "review", ("card_velocity",), "partial")
    Reason(code='FAILED_CLOSED', text='review instead of approve: card_velocity could not be read', weight=0.0)
    """
    if by_score == scored:
        return None
    code = "FAILED_CLOSED" if OUTCOMES.index(scored) > OUTCOMES.index(by_score) else "FAILED_OPEN"
    why = "the stream of payments is behind" if tier != FULL else "not all is known"
    if missing:
        why = f"{', '.join(missing)} could not be read"
    return Reason(code, f"{scored} instead of {by_score}: {why}", 0.0)
