"""The control group: a small share of would-be declines that is let through, so that declining can be judged.

A declined payment never shows what it would have been, so declines cannot be judged by their own labels. Letting a
known share of them through, drawn by lot, makes those few speak for the rest; :mod:`training.control_group` weighs them
by one over the probability with which they were drawn.

The lot is a keyed hash of the transaction's id: the same transaction has the same lot in every process and on every
retry, nobody who does not know the salt can choose an id that wins, and an audit can draw it again.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from fraud.errors import InvalidPolicy

LARGEST_SHARE: Final = 0.5
MOST_A_DAY: Final = 10_000
"""Transactions let through a day at most, whatever their amounts: what a process remembers of them stays bounded."""


@dataclass(frozen=True)
class ControlGroup:
    """Which would-be declines are let through, and what that may cost.

    Parameters
    ----------
    share
        Probability of letting one through, 0 to ``LARGEST_SHARE``; 0 is off.
    salt
        Key of the lot.
    amount_at_most
        Larger amounts are never let through; minor units.
    daily_amount
        Sum of the amounts that one scorer, all its workers together, may let through in a day (UTC); minor units.

    Raises
    ------
    InvalidPolicy
        A share out of range, or one without salt or without caps.

    Examples
    --------
    >>> group = ControlGroup(0.1, "salt", amount_at_most=10_000, daily_amount=50_000)
    >>> group.lot("t1") == group.lot("t1"), 0.0 <= group.lot("t2") < 1.0
    (True, True)
    """

    share: float = 0.0
    salt: str = ""
    amount_at_most: int = 0
    daily_amount: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= LARGEST_SHARE:
            raise InvalidPolicy(f"control group share {self.share} is not in 0..{LARGEST_SHARE}")
        if len(self.salt.encode()) > hashlib.blake2b.MAX_KEY_SIZE:
            raise InvalidPolicy(f"control group salt is longer than {hashlib.blake2b.MAX_KEY_SIZE} bytes")
        if self.share and not (self.salt and 0 < self.amount_at_most <= self.daily_amount):
            raise InvalidPolicy(
                "a control group needs a salt and 0 < amount_at_most <= daily_amount, not "
                f"amount_at_most={self.amount_at_most}, daily_amount={self.daily_amount}"
            )

    def lot(self, transaction_id: str) -> float:
        """Return the lot of a transaction, uniform in [0, 1); it is drawn when below ``share``."""
        digest = hashlib.blake2b(transaction_id.encode(), digest_size=8, key=self.salt.encode()).digest()
        return (int.from_bytes(digest, "little") >> 11) / 2.0**53


class Allowance:
    """What the control group has cost today; the day is passed in, and another day starts again at nothing.

    Parameters
    ----------
    parts
        Among how many such allowances, of as many processes, the daily amount is divided.
    """

    def __init__(self, parts: int = 1) -> None:
        self.spent = 0
        self._parts = parts
        self._day = -1
        self._taken: set[str] = set()

    def covers(self, group: ControlGroup, transaction_id: str, amount_minor: int, day: int) -> bool:
        """Return whether a transaction may be let through; one that was already is asked nothing again."""
        self._turn(day)
        if transaction_id in self._taken:
            return True
        return (
            amount_minor <= group.amount_at_most
            and self.spent + amount_minor <= group.daily_amount // self._parts
            and len(self._taken) < MOST_A_DAY
        )

    def take(self, transaction_id: str, amount_minor: int, day: int) -> None:
        """Count a transaction that is let through; the same one counts once."""
        self._turn(day)
        if transaction_id not in self._taken:
            self._taken.add(transaction_id)
            self.spent += amount_minor

    def _turn(self, day: int) -> None:
        if day > self._day:
            self._day, self.spent = day, 0
            self._taken.clear()
