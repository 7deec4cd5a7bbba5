"""The names of a logged vector: those that its bundle was packed with, so that the bundle can read it years later.

A scorer may compute more features, or others, than when its bundle was made. What it logs is brought into the order of
the bundle's own names; a name that is computed no more holds null, and no model in service takes one.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud.features import FEATURE_NAMES
from fraud.velocity import FloatArray

_PLACES: Final = {name: index for index, name in enumerate(FEATURE_NAMES)}
_NOWHERE: Final = len(FEATURE_NAMES)


def names_digest(names: Sequence[str]) -> str:
    """Return the digest of ordered feature names under which a vector is logged."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class VectorLayout:
    """In which order, and under which digest, vectors are logged.

    Parameters
    ----------
    digest
        Of the names.
    places
        Place in ``FEATURE_NAMES`` of each name, or one beyond them; null when the order is that one.
    """

    digest: str
    places: npt.NDArray[np.intp] | None

    def arrange(self, vector: FloatArray) -> FloatArray:
        """Return a vector in the order of ``FEATURE_NAMES`` in this one."""
        return vector if self.places is None else np.append(vector, np.nan)[self.places]


def layout_of(names: Sequence[str]) -> VectorLayout:
    """Return the layout of some names.

    Examples
    --------
    >>> layout_of(("transaction_hour", "gone", "transaction_amount")).arrange(np.arange(1.0, len(FEATURE_NAMES) + 1))
    array([ 2., nan,  1.])
    """
    if tuple(names) == FEATURE_NAMES:
        return OWN
    places = np.array([_PLACES.get(name, _NOWHERE) for name in names], np.intp)
    return VectorLayout(names_digest(names), places)


OWN: Final = VectorLayout(names_digest(FEATURE_NAMES), None)
"""The layout of what this version computes."""
