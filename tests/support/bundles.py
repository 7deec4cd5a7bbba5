"""A real, tiny bundle: XGBoost trained on random vectors of the true width, packed as training packs it."""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import xgboost as xgb

from fraud.bundle import MANIFEST, pack_bundle
from fraud.calibration import Calibration
from fraud.fallback import pack_fallback
from fraud.features import FEATURE_NAMES, SERVICE
from fraud.policy import Policy
from fraud.tiers import FALLBACKS, Tier, tier_features
from fraud.windows import JOIN_KEYS, Entity
from stores.bundle_files import write_bundle
from stores.plan import PlannedEntity, PlannedField, ReadPlan, plan_data

PROJECT = "fraud"
VIEWS: dict[Entity, dict[str, tuple[str, ...]]] = {
    "card": {
        "card_velocity": ("card_state", "card_revision"),
        "card_profile": ("card_home_country", "card_age_days", "card_amount_median_30d", "card_online_share_30d"),
    },
    "device": {"device_velocity": ("device_state", "device_revision")},
    "ip": {"ip_velocity": ("ip_state", "ip_revision")},
    "merchant": {
        "merchant_velocity": ("merchant_state", "merchant_revision"),
        "merchant_profile": ("merchant_age_days", "merchant_amount_median_30d", "merchant_card_distinct_30d"),
    },
}


def read_plan() -> ReadPlan:
    return ReadPlan(
        project=PROJECT,
        service=SERVICE,
        entities=tuple(
            PlannedEntity(
                entity,
                JOIN_KEYS[entity],
                tuple(PlannedField(view, feature) for view, features in views.items() for feature in features),
                tuple(views),
            )
            for entity, views in VIEWS.items()
        ),
        features=tuple(FEATURE_NAMES),
    )


def usual_size(feature: str) -> float:
    """Return a size such as real values of the feature have, so that splits fall among them."""
    if feature.startswith("amount_") or feature.endswith(("share", "foreign", "device")) or "_share_" in feature:
        return 1.0
    return 2000.0 if "amount" in feature or "category" in feature else 10.0


@functools.cache
def bundle_files(
    seed: int = 1,
    trees: int = 20,
    depth: int = 4,
    review_at: float = 0.5,
    decline_at: float = 0.55,
    features: tuple[str, ...] = FEATURE_NAMES,
    tiers: tuple[Tier, ...] = (),
    intercept: float = 0.0,
) -> dict[str, bytes]:
    """Return the files of a bundle; another seed is another model and another version, ``tiers`` have fallbacks."""
    model_json, rows, margins = _fitted(seed, trees, depth, features)
    return pack_bundle(
        model_json=model_json,
        features=features,
        calibration=Calibration(slope=1.0, intercept=intercept),
        policy=Policy("test", review_at=review_at, decline_at=decline_at),
        plan=plan_data(read_plan()),
        check_rows=rows,
        margins=margins,
        provenance={"seed": seed},
        fallbacks={tier: _fallback(seed, tier) for tier in tiers},
    )


def _fitted(
    seed: int, trees: int, depth: int, features: tuple[str, ...]
) -> tuple[bytes, npt.NDArray[np.float64], list[float]]:
    rng = np.random.default_rng(seed)
    scale = np.array([usual_size(name) for name in features])
    table = rng.gamma(1.0, 1.0, (800, len(features))) * scale
    table[rng.random(table.shape) < 0.1] = np.nan
    risk = np.nan_to_num(table / scale)[:, ::5].sum(axis=1) + rng.normal(0.0, 2.0, len(table))
    matrix = xgb.DMatrix(table, label=(risk > np.median(risk)).astype(int))
    parameters = {"objective": "binary:logistic", "max_depth": depth, "eta": 0.2, "seed": seed, "nthread": 1}
    booster = xgb.train(parameters, matrix, trees)
    rows = table[:16]
    margins = booster.predict(xgb.DMatrix(rows), output_margin=True)
    return bytes(booster.save_raw("json")), rows, [float(margin) for margin in margins]


def _fallback(seed: int, tier: Tier) -> bytes:
    number = FALLBACKS.index(tier) + 1
    model_json, rows, margins = _fitted(seed + 1000 * number, 8, 3, tier_features(tier))
    return pack_fallback(
        model_json=model_json,
        features=tier_features(tier),
        calibration=Calibration(slope=1.0 + 0.1 * number, intercept=-0.2 * number),
        check_rows=rows,
        margins=margins,
    )


def resealed(files: Mapping[str, bytes], **contents: bytes) -> dict[str, bytes]:
    """Return a bundle with other contents (``policy=...`` for ``policy.json``) and a manifest that vouches for them."""
    changed = {**files, **{f"{name}.json": content for name, content in contents.items()}}
    manifest = msgspec.json.decode(files[MANIFEST])
    for name in contents:
        manifest["sha256"][f"{name}.json"] = hashlib.sha256(changed[f"{name}.json"]).hexdigest()
    return {**changed, MANIFEST: msgspec.json.encode(manifest)}


def with_policy(files: Mapping[str, bytes], policy: Policy) -> dict[str, bytes]:
    """Return the bundle under another policy."""
    return resealed(files, policy=msgspec.json.encode(policy))


def write_test_bundle(
    directory: Path,
    seed: int = 1,
    review_at: float = 0.5,
    decline_at: float = 0.55,
    tiers: tuple[Tier, ...] = (),
) -> Path:
    """Write a bundle into a new directory."""
    return write_bundle(bundle_files(seed, review_at=review_at, decline_at=decline_at, tiers=tiers), directory)
