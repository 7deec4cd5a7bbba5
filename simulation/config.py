"""What a world is made from: every number bounded, checked once."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from fraud.errors import InvalidSetting
from simulation.randomness import DAY_MS, HOUR_MS

MAX_ROWS: Final = 60_000_000
"""Most rows one world may have; it is built in memory, at roughly 250 bytes a row."""


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Size, time and temper of a world.

    Parameters
    ----------
    days
        Days generated, from ``start`` (UTC).
    transactions_per_day
        Mean rows a day, legitimate and fraudulent, before the peak hour's surplus.
    seed
        The same seed and config give byte-identical tables with the same NumPy and Arrow.
    start
        First day.
    currency
        ISO 4217 code of every amount.
    fraud_share
        Share of rows that are fraud.
    novelty
        Part of the days after which the collusive merchants appear, a fraud type unseen before.
    peak_hour
        When set, the last day is a payday, this hour of it (UTC) is ``peak_multiplier`` times as busy, and within the
        hour a card-testing attack, cash-outs of its cards and an account takeover take place.
    peak_multiplier
        Surplus factor of the peak hour over that hour of an ordinary payday.
    staged_cards
        Cards tested by the attack of the peak hour.
    """

    days: int
    transactions_per_day: int
    seed: int = 7
    start: date = date(2026, 1, 5)
    currency: str = "EUR"
    fraud_share: float = 0.0065
    novelty: float = 0.6
    peak_hour: int | None = None
    peak_multiplier: float = 2.5
    staged_cards: int = 60

    def __post_init__(self) -> None:
        _between("days", self.days, 1, 3660)
        _between("transactions_per_day", self.transactions_per_day, 100, 10_000_000)
        _between("seed", self.seed, 0, 2**63 - 1)
        _between("start (year)", self.start.year, 2000, 2089)
        _between("fraud_share", self.fraud_share, 0.0, 0.2)
        _between("novelty", self.novelty, 0.0, 1.0)
        _between("peak_multiplier", self.peak_multiplier, 1.0, 100.0)
        _between("staged_cards", self.staged_cards, 5, 10_000)
        if self.peak_hour is not None:
            _between("peak_hour", self.peak_hour, 0, 23)
        if not re.fullmatch("[A-Z]{3}", self.currency):
            raise InvalidSetting(f"currency {self.currency!r} is not three capital letters such as 'EUR'")
        if self.days * self.transactions_per_day > MAX_ROWS:
            raise InvalidSetting(
                f"{self.days} days of {self.transactions_per_day} transactions are more than {MAX_ROWS} rows; "
                "ask for fewer days or transactions, or several worlds"
            )

    @property
    def rows(self) -> int:
        """Rows aimed at, before the peak hour's surplus."""
        return self.days * self.transactions_per_day

    @property
    def start_ms(self) -> int:
        """First moment of the world, epoch milliseconds."""
        start = self.start
        return int(datetime(start.year, start.month, start.day, tzinfo=UTC).timestamp()) * 1000

    @property
    def end_ms(self) -> int:
        """First moment after the world, epoch milliseconds."""
        return self.start_ms + self.days * DAY_MS

    @property
    def peak_start_ms(self) -> int | None:
        """First moment of the peak hour, epoch milliseconds; ``None`` without one."""
        return None if self.peak_hour is None else self.end_ms - DAY_MS + self.peak_hour * HOUR_MS

    @property
    def cards(self) -> int:
        """Cards in the world: one for each 0.6 transactions a day."""
        return max(200, round(self.transactions_per_day / 0.6))

    @property
    def merchants(self) -> int:
        """Merchants in the world: one for each eight transactions a day."""
        return max(160, round(self.transactions_per_day / 8))


def _between(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidSetting(f"{name} {value} is not in {low}..{high}")
