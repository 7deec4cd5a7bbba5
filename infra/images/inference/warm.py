"""Compiles the scorer's kernels into ``NUMBA_CACHE_DIR`` while the image is built, so that no container compiles.

It opens a bundle of one small tree through the scorer's own door, which runs every kernel once.
"""

import json
from typing import Any

import numpy as np

from fraud.bundle import pack_bundle
from fraud.calibration import Calibration
from fraud.features import CARD_PROFILE_FEATURES, FEATURE_NAMES, HOME_COUNTRY, MERCHANT_PROFILE_FEATURES, SERVICE
from fraud.policy import Policy
from fraud.trees import parse_forest, predict_margin
from fraud.windows import ENTITIES
from serving.model import prepare_model
from stores.plan import PlannedEntity, PlannedField, ReadPlan, plan_data


def main() -> None:
    """Warm."""
    model = json.dumps(stump()).encode()
    rows = np.zeros((1, len(FEATURE_NAMES)))
    prepare_model(
        pack_bundle(
            model_json=model,
            features=FEATURE_NAMES,
            calibration=Calibration(slope=1.0, intercept=0.0),
            policy=Policy("warm", review_at=0.5, decline_at=0.6),
            plan=plan_data(plan()),
            check_rows=rows,
            margins=[float(predict_margin(parse_forest(model), rows[0]))],
            provenance={},
        )
    )


def stump() -> dict[str, Any]:
    """Return a model of one split, as XGBoost saves it."""
    tree = {
        "left_children": [1, -1, -1],
        "right_children": [2, -1, -1],
        "split_indices": [0, 0, 0],
        "split_conditions": [0.5, -0.1, 0.1],
        "default_left": [0, 0, 0],
        "sum_hessian": [2.0, 1.0, 1.0],
        "split_type": [0, 0, 0],
    }
    parameters = {"num_feature": str(len(FEATURE_NAMES)), "base_score": "5E-1"}
    booster = {"name": "gbtree", "model": {"trees": [tree]}}
    objective = {"name": "binary:logistic"}
    return {"learner": {"gradient_booster": booster, "objective": objective, "learner_model_param": parameters}}


def plan() -> ReadPlan:
    """Return a plan that reads what the scorer asks for."""
    profiles = {
        "card": (HOME_COUNTRY, *(feature.name for feature in CARD_PROFILE_FEATURES)),
        "merchant": tuple(feature.name for feature in MERCHANT_PROFILE_FEATURES),
    }
    entities = tuple(
        PlannedEntity(
            entity,
            f"{entity}_id",
            (
                PlannedField(f"{entity}_velocity", f"{entity}_state"),
                PlannedField(f"{entity}_velocity", f"{entity}_revision"),
                *(PlannedField(f"{entity}_profile", name) for name in profiles.get(entity, ())),
            ),
            (f"{entity}_velocity", *((f"{entity}_profile",) if entity in profiles else ())),
        )
        for entity in ENTITIES
    )
    return ReadPlan("fraud", SERVICE, entities, tuple(FEATURE_NAMES))


if __name__ == "__main__":
    main()
