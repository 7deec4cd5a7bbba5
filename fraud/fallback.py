"""A fallback: the model of one tier beside the full one, in one file of the bundle that verifies itself.

``fallback-<tier>.json`` holds XGBoost's own JSON, the ordered feature names, a calibration of its own, and recorded
rows with the margins they must give. Its thresholds stand in the bundle's policy, under the tier's name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from fraud.calibration import Calibration
from fraud.errors import CorruptBundle
from fraud.tiers import FALLBACKS, Tier
from fraud.trees import Forest, parse_forest, predict_margin
from fraud.velocity import FloatArray

FALLBACK_FILES: Final = {f"fallback-{tier}.json": tier for tier in FALLBACKS}

_encoder = msgspec.json.Encoder(order="deterministic")


@dataclass(frozen=True)
class Check:
    """A recorded row, in contract order with null for missing, and the margin the model gave it."""

    row: tuple[float | None, ...]
    margin: float


@dataclass(frozen=True)
class TierModel:
    """A verified model of one tier.

    Parameters
    ----------
    tier
        Its name.
    features
        Ordered names of its inputs.
    forest, calibration
        Ready to use.
    """

    tier: Tier
    features: tuple[str, ...]
    forest: Forest
    calibration: Calibration

    def score(self, row: FloatArray) -> float:
        """Return the calibrated probability of fraud of one row in the order of ``features``; NaN is missing."""
        return self.calibration.score(predict_margin(self.forest, row))


class _File(msgspec.Struct, frozen=True, kw_only=True):
    calibration: Calibration
    checks: tuple[Check, ...]
    features: tuple[str, ...]
    model: msgspec.Raw


def record(rows: FloatArray, margins: Sequence[float]) -> tuple[Check, ...]:
    """Return rows, shape ``(n, features)``, NaN for missing, and the margin XGBoost itself gave each, as checks."""
    return tuple(
        Check(tuple(None if np.isnan(value) else float(value) for value in row), float(margin))
        for row, margin in zip(rows, margins, strict=True)
    )


def pack_fallback(
    *,
    model_json: bytes,
    features: Sequence[str],
    calibration: Calibration,
    check_rows: FloatArray,
    margins: Sequence[float],
) -> bytes:
    """Return the file of a fallback; the parameters are those of :func:`fraud.bundle.pack_bundle`."""
    return _encoder.encode(
        _File(
            calibration=calibration,
            checks=record(check_rows, margins),
            features=tuple(features),
            model=msgspec.Raw(model_json),
        )
    )


def open_fallback(tier: Tier, content: bytes) -> TierModel:
    """Return the model in a fallback's file after checking every recorded row.

    Raises
    ------
    CorruptBundle
        It is malformed, or the runtime does not reproduce a recorded margin bit for bit.
    """
    try:
        held = msgspec.json.decode(content, type=_File)
    except msgspec.DecodeError as error:
        raise CorruptBundle(f"fallback {tier} is malformed: {error}") from None
    model = TierModel(tier, held.features, parse_forest(bytes(held.model)), held.calibration)
    reproduce(model.forest, model.features, held.checks, of=f"fallback {tier}: ")
    return model


def reproduce(forest: Forest, features: Sequence[str], checks: Sequence[Check], *, of: str = "") -> None:
    """Raise :class:`CorruptBundle` unless the runtime gives every recorded row its recorded margin, bit for bit.

    ``of`` is what an error's sentence begins with.
    """
    if not checks:
        raise CorruptBundle(f"{of}bundle records no rows to verify the runtime with")
    if forest.width != len(features):
        raise CorruptBundle(f"{of}model takes {forest.width} inputs, the contract names {len(features)}")
    for index, check in enumerate(checks):
        if len(check.row) != len(features):
            raise CorruptBundle(f"{of}recorded row {index} has {len(check.row)} values, not {len(features)}")
        found = predict_margin(forest, np.array([np.nan if v is None else v for v in check.row], np.float64))
        if found != check.margin:
            raise CorruptBundle(f"{of}recorded row {index} gives margin {found!r}, not {check.margin!r}")
