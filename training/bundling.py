"""From a fitted model to the files of a bundle, with rows recorded so that the scorer can verify itself."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fraud.bundle import pack_bundle
from fraud.fallback import pack_fallback
from fraud.policy import Policy
from fraud.tiers import Tier
from training.dataset import TrainingSet
from training.fallbacks import FittedFallback
from training.fit import FittedModel

CHECK_ROWS: Final = 24
_CODE: Final = ("fraud", "stores", "feature_repo", "training")


def bundle_files(
    model: FittedModel,
    policy: Policy,
    plan: Mapping[str, Any],
    rows: npt.NDArray[np.float32],
    provenance: Mapping[str, Any],
    fallbacks: Mapping[Tier, FittedFallback] | None = None,
) -> dict[str, bytes]:
    """Return the files of the bundle.

    Parameters
    ----------
    rows
        Rows to choose the recorded ones from, shape ``(n, width)``; the first and others evenly spaced are taken, so
        that nulls and extremes of the data are among them.
    fallbacks
        The models of the tiers below the full one.
    """
    chosen = _chosen(rows)
    return pack_bundle(
        model_json=model.model_json,
        features=model.features,
        increasing=model.increasing,
        calibration=model.calibration,
        policy=policy,
        plan=plan,
        check_rows=chosen.astype(np.float64),
        margins=model.margins(chosen).tolist(),
        provenance=provenance,
        fallbacks={tier: _packed(held, rows) for tier, held in (fallbacks or {}).items()},
    )


def _packed(fallback: FittedFallback, rows: npt.NDArray[np.float32]) -> bytes:
    chosen = _chosen(rows)[:, fallback.columns]
    return pack_fallback(
        model_json=fallback.model.model_json,
        features=fallback.model.features,
        calibration=fallback.model.calibration,
        check_rows=chosen.astype(np.float64),
        margins=fallback.model.margins(chosen).tolist(),
    )


def _chosen(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return rows[np.unique(np.linspace(0, len(rows) - 1, CHECK_ROWS).astype(np.int64))]


def data_digest(rows: TrainingSet, taken: slice) -> str:
    """Return the SHA-256 of the features, labels and weights of some rows."""
    digest = hashlib.sha256()
    digest.update("\n".join(rows.features).encode())
    digest.update(np.ascontiguousarray(rows.matrix[taken]).tobytes())
    digest.update(rows.is_fraud[taken].tobytes())
    if rows.weights is not None:
        digest.update(rows.weights[taken].tobytes())
    return digest.hexdigest()


def code_digest(root: Path) -> str:
    """Return the SHA-256 of the source files that define features and training, in the order of their names."""
    digest = hashlib.sha256()
    for room in _CODE:
        for path in sorted((root / room).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
