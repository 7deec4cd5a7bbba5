"""The feature service a model is trained on and served from."""

from typing import Final

from feast import FeatureService

from feature_repo.on_demand import context, velocity
from feature_repo.views import card_profile, merchant_profile
from fraud.features import CARD_PROFILE_FEATURES, SERVICE

fraud_score_v1: Final = FeatureService(
    name=SERVICE,
    features=[
        velocity,
        context,
        card_profile[[feature.name for feature in CARD_PROFILE_FEATURES]],
        merchant_profile,
    ],
    description="All that the fraud model reads of one transaction.",
)
