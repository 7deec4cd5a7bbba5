"""A label: what somebody said about a transaction, when they said it and when we knew.

A label counts only once it is *mature*: old enough that a statement would have arrived. Where sources disagree the
order is fixed: an analyst's verdict over a chargeback over a cardholder's report; within one source the latest to
arrive wins, then the latest to be made, then fraud.
"""

from dataclasses import dataclass
from typing import Final, Literal

from fraud.errors import InvalidLabel

Source = Literal["verdict", "chargeback", "report"]
PRECEDENCE: Final[tuple[Source, ...]] = ("verdict", "chargeback", "report")


@dataclass(frozen=True)
class Label:
    """A statement about one transaction.

    Parameters
    ----------
    transaction_id
        The transaction it speaks of.
    is_fraud
        What it says.
    source
        Who says so.
    event_time_ms
        When the source made the statement, epoch ms.
    arrival_time_ms
        When we knew, epoch ms; never before the statement.

    Raises
    ------
    InvalidLabel
        It arrived before it was made, or its source is unknown.
    """

    transaction_id: str
    is_fraud: bool
    source: Source
    event_time_ms: int
    arrival_time_ms: int

    def __post_init__(self) -> None:
        if self.source not in PRECEDENCE:
            raise InvalidLabel(f"source {self.source!r} is none of {', '.join(PRECEDENCE)}")
        if self.arrival_time_ms < self.event_time_ms:
            raise InvalidLabel(
                f"label of {self.transaction_id!r} arrived at {self.arrival_time_ms}, before it was made at "
                f"{self.event_time_ms}"
            )


def is_mature(transaction_time_ms: int, as_of_ms: int, delay_ms: int) -> bool:
    """Return whether a transaction is old enough at ``as_of_ms`` for the absence of a label to mean legitimate.

    Examples
    --------
    >>> is_mature(0, as_of_ms=100, delay_ms=100), is_mature(1, as_of_ms=100, delay_ms=100)
    (True, False)
    """
    return as_of_ms - transaction_time_ms >= delay_ms


def settle(labels: list[Label], as_of_ms: int) -> Label | None:
    """Return the statement that counts at ``as_of_ms`` among those about one transaction, or null when none is known.

    Examples
    --------
    >>> report = Label("t", True, "report", 1, 5)
    >>> verdict = Label("t", False, "verdict", 2, 9)
    >>> settle([verdict, report], as_of_ms=6).is_fraud, settle([verdict, report], as_of_ms=9).is_fraud
    (True, False)
    """
    known = [label for label in labels if label.arrival_time_ms <= as_of_ms]
    if not known:
        return None
    return min(known, key=_rank)


def _rank(label: Label) -> tuple[int, int, int, bool]:
    return PRECEDENCE.index(label.source), -label.arrival_time_ms, -label.event_time_ms, not label.is_fraud
