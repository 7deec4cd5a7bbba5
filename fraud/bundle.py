"""A model bundle: everything the scorer needs, as named bytes under digests; never pickle.

Files: ``model.json`` (XGBoost's own JSON), ``contract.json`` (the ordered names of the model's inputs, of those whose
rise never lowers the score, and of all features there were), ``calibration.json``, ``policy.json``, ``plan.json`` (how
the online store is read), ``checks.json`` (rows with the margins they must give), ``provenance.json`` (digests of data
and code, seed, window) and ``manifest.json`` (SHA-256 of each of them). Beside them there may be a
``fallback-<tier>.json`` for each tier below the full one (:mod:`fraud.fallback`). The bundle's version is the digest of
its manifest, so the same data and seed give the same version, and one flipped byte is refused.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from fraud.calibration import Calibration
from fraud.errors import CorruptBundle, InvalidPolicy
from fraud.fallback import FALLBACK_FILES, Check, TierModel, open_fallback, record, reproduce
from fraud.features import FEATURE_NAMES
from fraud.policy import Policy
from fraud.tiers import Tier
from fraud.trees import Forest, parse_forest, predict_margin
from fraud.velocity import FloatArray

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
FILES: Final = (
    "calibration.json",
    "checks.json",
    "contract.json",
    "model.json",
    "plan.json",
    "policy.json",
    "provenance.json",
)

_encoder = msgspec.json.Encoder(order="deterministic")


@dataclass(frozen=True)
class ModelBundle:
    """A verified bundle.

    Parameters
    ----------
    version
        First 16 hex digits of the manifest's SHA-256.
    features
        Ordered names of the model's inputs.
    forest, calibration, policy
        Ready to use.
    plan
        The read plan as JSON-like data; :mod:`stores.plan` knows its shape.
    provenance
        Where it came from: digests, seed, window.
    fallbacks
        The models of the tiers below the full one; empty for a bundle without any, which then scores with missing
        values.
    vector
        Ordered names of all features when it was packed: what its decisions are logged under.
    increasing
        Features whose rise never lowers the score, all else equal: what the fit promised, and the gate looked at.
    """

    version: str
    features: tuple[str, ...]
    forest: Forest
    calibration: Calibration
    policy: Policy
    plan: Mapping[str, Any]
    provenance: Mapping[str, Any]
    fallbacks: Mapping[Tier, TierModel] = field(default_factory=dict)
    vector: tuple[str, ...] = FEATURE_NAMES
    increasing: tuple[str, ...] = ()

    def score(self, row: FloatArray) -> float:
        """Return the calibrated probability of fraud of one row in contract order; NaN is missing."""
        return self.calibration.score(predict_margin(self.forest, row))


def pack_bundle(  # noqa: PLR0913  # one for each file of a bundle
    *,
    model_json: bytes,
    features: Sequence[str],
    calibration: Calibration,
    policy: Policy,
    plan: Mapping[str, Any],
    check_rows: FloatArray,
    margins: Sequence[float],
    provenance: Mapping[str, Any],
    fallbacks: Mapping[Tier, bytes] | None = None,
    increasing: Sequence[str] = (),
) -> dict[str, bytes]:
    """Return the files of a bundle.

    Parameters
    ----------
    check_rows, margins
        Rows, shape ``(n, features)``, NaN for missing, and the margin XGBoost itself gave each.
    provenance
        Plain data without a clock reading, or equal training runs would differ in version.
    fallbacks
        Per tier what :func:`fraud.fallback.pack_fallback` gives.
    increasing
        Those of ``features`` whose rise never lowers the score.
    """
    contract = {"features": list(features), "vector": list(FEATURE_NAMES)}
    if increasing:
        contract["increasing"] = list(increasing)
    files = {
        "calibration.json": _encoder.encode(calibration),
        "checks.json": _encoder.encode(record(check_rows, margins)),
        "contract.json": _encoder.encode(contract),
        "model.json": model_json,
        "plan.json": _encoder.encode(plan),
        "policy.json": _encoder.encode(policy),
        "provenance.json": _encoder.encode(provenance),
    }
    for name, tier in FALLBACK_FILES.items():
        if fallbacks is not None and tier in fallbacks:
            files[name] = fallbacks[tier]
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return {**files, MANIFEST: _encoder.encode({"format": FORMAT, "sha256": digests})}


def open_bundle(files: Mapping[str, bytes]) -> ModelBundle:
    """Return the bundle in ``files`` after checking every digest and every recorded row.

    Raises
    ------
    CorruptBundle
        A file is missing, altered or malformed, or the runtime does not reproduce a recorded margin bit for bit.
    """
    _check_digests(files, _manifest(files))
    try:
        contract = msgspec.json.decode(files["contract.json"], type=dict[str, tuple[str, ...]])
        bundle = ModelBundle(
            version=hashlib.sha256(files[MANIFEST]).hexdigest()[:16],
            features=contract["features"],
            increasing=contract.get("increasing", ()),
            forest=parse_forest(files["model.json"]),
            calibration=msgspec.json.decode(files["calibration.json"], type=Calibration),
            policy=msgspec.json.decode(files["policy.json"], type=Policy),
            plan=msgspec.json.decode(files["plan.json"], type=dict[str, Any]),
            provenance=msgspec.json.decode(files["provenance.json"], type=dict[str, Any]),
            fallbacks={
                tier: open_fallback(tier, files[name]) for name, tier in FALLBACK_FILES.items() if name in files
            },
            vector=contract.get("vector", FEATURE_NAMES),
        )
        checks = msgspec.json.decode(files["checks.json"], type=list[Check])
    except (KeyError, InvalidPolicy, msgspec.DecodeError) as error:
        raise CorruptBundle(f"bundle is malformed: {error}") from None
    strange = [name for name in bundle.increasing if name not in bundle.features]
    if strange:
        raise CorruptBundle(f"the contract calls {strange[0]!r} increasing and does not name it among the features")
    reproduce(bundle.forest, bundle.features, checks)
    return bundle


def _check_digests(files: Mapping[str, bytes], manifest: Mapping[str, str]) -> None:
    for name in (*FILES, *(name for name in FALLBACK_FILES if name in files or name in manifest)):
        if name not in files:
            raise CorruptBundle(f"{name} is missing from the bundle")
        found = hashlib.sha256(files[name]).hexdigest()
        if found != manifest.get(name):
            stated = str(manifest.get(name, "nothing"))[:16]
            raise CorruptBundle(f"{name} has digest {found[:16]}, the manifest says {stated}")


def _manifest(files: Mapping[str, bytes]) -> dict[str, str]:
    if MANIFEST not in files:
        raise CorruptBundle(f"{MANIFEST} is missing from the bundle")
    try:
        manifest = msgspec.json.decode(files[MANIFEST])
        digests = dict(manifest["sha256"])
    except (KeyError, TypeError, ValueError, msgspec.DecodeError) as error:
        raise CorruptBundle(f"{MANIFEST} is malformed: {error!r}") from None
    if manifest.get("format") != FORMAT:
        raise CorruptBundle(f"bundle format {manifest.get('format')!r} is not {FORMAT}")
    return digests
