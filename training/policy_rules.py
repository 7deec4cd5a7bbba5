"""What of a policy people decide, and no fit: read from a JSON file, the same for every week's challenger.

Thresholds come from budgets (:func:`training.fit.choose_policy`); these rules say what is done around them::

    {"missing_outcome": "review",
     "becomes": {"request_only": {"decline": "review"}},
     "segments": [{"name": "gambling", "review_at": 0.05, "decline_at": 0.3, "merchant_categories": [7995]}],
     "decline_cap": {"share": 0.2, "times": 20},
     "control_share": 0.005, "control_amount_minor": 10000, "control_daily_minor": 100000}

Every field may be left out.
"""

import hashlib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from fraud.control_group import ControlGroup
from fraud.decline_cap import DeclineCap
from fraud.errors import InvalidPolicy
from fraud.policy import Outcome, Policy, Segment, TierPolicy
from fraud.tiers import Tier

REQUEST_ONLY_BECOMES: Final[dict[Outcome, Outcome]] = {"decline": "review"}
"""From nothing but the payment itself nobody is declined: people look at what would have been."""


@dataclass(frozen=True, kw_only=True)
class PolicyRules:
    """The rules.

    Parameters
    ----------
    missing_outcome, segments, decline_cap
        As in :class:`fraud.policy.Policy`.
    becomes
        Per tier below the full one, as in :class:`fraud.policy.TierPolicy`.
    control_share
        Share of would-be declines that is let through to learn from; 0 is none.
    control_amount_minor, control_daily_minor
        Largest amount let through, and the sum of a day in one process.

    Raises
    ------
    InvalidPolicy
        A rule is none.
    """

    missing_outcome: Outcome = "approve"
    becomes: dict[Tier, dict[Outcome, Outcome]] = field(
        default_factory=lambda: {"request_only": dict(REQUEST_ONLY_BECOMES)}
    )
    segments: tuple[Segment, ...] = ()
    decline_cap: DeclineCap = field(default_factory=DeclineCap)
    control_share: float = 0.0
    control_amount_minor: int = 10_000
    control_daily_minor: int = 100_000

    def __post_init__(self) -> None:
        tiers = {tier: TierPolicy(0.5, 0.5, becomes) for tier, becomes in self.becomes.items()}
        self._around(Policy("rules", 0.5, 0.5), tiers, "salt")

    def applied(self, thresholds: Policy, tiers: dict[Tier, TierPolicy], *, salt: str) -> Policy:
        """Return the policy of these rules around fitted thresholds.

        Parameters
        ----------
        thresholds
            Of the full tier.
        tiers
            Thresholds of the tiers below it.
        salt
            What the control group's key is made of; the same salt gives the same lots.
        """
        policy = self._around(thresholds, tiers, salt)
        return policy if self == PolicyRules() else replace(policy, version=f"{policy.version}-{self.digest()}")

    def _around(self, thresholds: Policy, tiers: dict[Tier, TierPolicy], salt: str) -> Policy:
        control = ControlGroup()
        if self.control_share:
            key = hashlib.sha256(f"control group {salt}".encode()).hexdigest()[:32]
            control = ControlGroup(self.control_share, key, self.control_amount_minor, self.control_daily_minor)
        return replace(
            thresholds,
            missing_outcome=self.missing_outcome,
            tiers={tier: replace(held, becomes=self.becomes.get(tier, {})) for tier, held in tiers.items()},
            segments=self.segments,
            decline_cap=self.decline_cap,
            control_group=control,
        )

    def digest(self) -> str:
        """Return 8 hex digits that name the rules."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()[:8]


def read_rules(path: Path) -> PolicyRules:
    """Return the rules in a file.

    Raises
    ------
    InvalidPolicy
        It cannot be read, names a rule that there is not, or a rule is none.
    """
    try:
        content = path.read_bytes()
        rules = msgspec.json.decode(content, type=PolicyRules)
        _refuse_unknown(msgspec.json.decode(content))
    except OSError as error:
        raise InvalidPolicy(f"{path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, InvalidPolicy) as error:
        raise InvalidPolicy(f"{path} is no file of policy rules: {error}") from None
    return rules


def _refuse_unknown(given: dict[str, Any]) -> None:
    """Raise when a name is none that is known: a condition mistyped would hold for everybody."""
    parts: list[tuple[type[Any], dict[str, Any]]] = [(PolicyRules, given), (DeclineCap, given.get("decline_cap", {}))]
    parts += [(Segment, segment) for segment in given.get("segments", ())]
    for kind, names in parts:
        known = {item.name for item in fields(kind)}
        for name in names:
            if name not in known:
                raise InvalidPolicy(f"{name!r} is none of {', '.join(sorted(known))}")
