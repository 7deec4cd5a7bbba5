"""What the gate says of a challenger: each check with its evidence, and whether all of them passed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """One check: its name, whether it passed, and the numbers behind it in one sentence.

    One that was not ``asked`` passes, and its evidence says what would have been needed to ask it.
    """

    name: str
    passed: bool
    evidence: str
    asked: bool = True

    def facts(self) -> dict[str, Any]:
        """Return it as plain data; that it was asked goes without saying."""
        return {name: value for name, value in asdict(self).items() if name != "asked" or not value}

    @property
    def word(self) -> str:
        """What a table says of it."""
        return ("pass" if self.passed else "FAIL") if self.asked else "not asked"


def not_asked(name: str, why: str) -> Check:
    """Return the place of a check that nobody could ask or wanted to ask, so that its absence is seen.

    Examples
    --------
    >>> not_asked("catches_every_type", "labels carry no type").word
    'not asked'
    """
    return Check(name, passed=True, evidence=f"not asked: {why}", asked=False)


@dataclass(frozen=True)
class Verdict:
    """The gate's answer: promoted only when every check passed.

    Parameters
    ----------
    checks
        In the order in which they are shown.
    report_sha256
        Of the report kept with it.
    rows, frauds
        Of the training set that it is about.
    """

    checks: tuple[Check, ...]
    report_sha256: str | None = None
    rows: int = 0
    frauds: int = 0

    def facts(self) -> dict[str, Any]:
        """Return what a registry's history says of it."""
        report = {} if self.report_sha256 is None else {"report_sha256": self.report_sha256}
        size = {"rows": self.rows, "frauds": self.frauds} if self.rows else {}
        return {"checks": [check.facts() for check in self.checks], **report, **size}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Verdict":
        """Return the verdict that a registry's history tells of."""
        checks = tuple(Check(**check) for check in facts["checks"])
        return cls(checks, facts.get("report_sha256"), facts.get("rows", 0), facts.get("frauds", 0))

    @property
    def passed(self) -> bool:
        """Whether the challenger may be promoted."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The evidence of each failed check."""
        return tuple(f"{check.name}: {check.evidence}" for check in self.checks if not check.passed)
