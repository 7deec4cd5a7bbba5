"""Keeping a share of the legitimate rows, with weights that make up for those that were left out.

Whether a row is kept depends on its transaction id and a seed alone: not on its place, on the other rows, or on how
often it is asked. A smaller share keeps a part of what a larger one keeps.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stores.columns import hash_strings
from training.errors import InvalidSplit

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

_HASHES: Final = 2.0**64


@dataclass(frozen=True)
class Sampling:
    """What is kept.

    Parameters
    ----------
    keep_legitimate
        Share of the legitimate rows, above 0 and at most 1; every fraud is kept.
    seed
        Another seed keeps other rows.

    Raises
    ------
    InvalidSplit
        The share is out of range.
    """

    keep_legitimate: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a share that keeps nothing or more than all."""
        if not 0.0 < self.keep_legitimate <= 1.0:
            raise InvalidSplit(f"keep-legitimate {self.keep_legitimate} is not above 0 and at most 1")

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is left out."""
        return self.keep_legitimate >= 1.0

    def kept(self, transaction_id: Any, is_fraud: BoolArray) -> BoolArray:
        """Return which rows are kept, shape ``(n,)``.

        Examples
        --------
        >>> ids = pa.array([f"t{number}" for number in range(1000)])
        >>> int(Sampling(0.1).kept(ids, np.zeros(1000, np.bool_)).sum())
        100
        """
        if self.keeps_all:
            return np.ones(len(is_fraud), np.bool_)
        keyed = pc.binary_join_element_wise(pa.scalar(f"{self.seed}"), transaction_id, "/")
        drawn = hash_strings(keyed).astype(np.float64) / _HASHES
        return np.asarray(is_fraud | (drawn < self.keep_legitimate), np.bool_)

    def weights(self, is_fraud: BoolArray) -> FloatArray | None:
        """Return how many rows each kept row stands for, shape ``(n,)``; null when nothing was left out."""
        if self.keeps_all:
            return None
        return np.where(is_fraud, 1.0, 1.0 / self.keep_legitimate)


EVERY_ROW: Final = Sampling()
"""Nothing is left out."""
