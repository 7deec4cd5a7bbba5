"""Transactions while they are being made: columns of numbers, before they get ids and names."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud.transaction import CHANNELS
from simulation.randomness import BoolArray, IntArray

POS: Final = CHANNELS.index("pos")
ONLINE: Final = CHANNELS.index("online")
APP: Final = CHANNELS.index("app")
MOTO: Final = CHANNELS.index("moto")

NOTHING: Final = -1
"""Number of a device or address that is not known."""

FRAUD_TYPES: Final = (
    "card_testing",
    "cash_out",
    "merchant_compromise",
    "stolen_number",
    "account_takeover",
    "mule_merchant",
    "limit_aware",
)
LEGITIMATE: Final = -1


@dataclass(frozen=True)
class Rows:
    """Columns of equal length.

    Attributes
    ----------
    time
        Event time, epoch milliseconds.
    card, merchant, device, ip
        Numbers; ``NOTHING`` where there is no device or address.
    amount
        Minor units, positive.
    channel
        Position in ``CHANNELS``.
    authorised
        The issuer's answer.
    fraud
        Position in ``FRAUD_TYPES``, or ``LEGITIMATE``.
    """

    time: IntArray
    card: IntArray
    merchant: IntArray
    device: IntArray
    ip: IntArray
    amount: IntArray
    channel: npt.NDArray[np.int8]
    authorised: BoolArray
    fraud: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.time)

    def take(self, index: IntArray | BoolArray) -> "Rows":
        """Return the rows at ``index``: positions, or a mask."""
        return Rows(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


def concatenate(parts: Sequence[Rows]) -> Rows:
    """Return all rows of ``parts`` in order."""
    return Rows(**{field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Rows)})
