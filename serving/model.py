"""A model in service: a verified bundle with everything a request needs worked out once."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud import velocity
from fraud.bundle import ModelBundle, open_bundle
from fraud.calibration import Calibration
from fraud.errors import CorruptBundle
from fraud.features import (
    CARD_PROFILE_FEATURES,
    FEATURE_NAMES,
    HOME_COUNTRY,
    MERCHANT_PROFILE_FEATURES,
    Profiles,
    evaluate,
    evaluate_in_parts,
)
from fraud.policy import Reason
from fraud.reasons import find_reasons
from fraud.ring import new_scratch
from fraud.shap import Explainer, attributions, explain_with
from fraud.tiers import FULL, Tier, tier_for
from fraud.transaction import Transaction
from fraud.trees import Forest, predict_margin
from fraud.vector_names import VectorLayout, layout_of
from fraud.velocity import FloatArray, transaction_change
from fraud.windows import ENTITIES, Entity
from serving.places import EntityPlaces, find_places
from stores.plan import CompiledReader, ReadPlan, plan_from

_PLACES: Final = {name: index for index, name in enumerate(FEATURE_NAMES)}
_NEEDED: Final[dict[str, frozenset[str]]] = {
    "card": frozenset({"card_state", HOME_COUNTRY, *(feature.name for feature in CARD_PROFILE_FEATURES)}),
    "device": frozenset({"device_state"}),
    "ip": frozenset({"ip_state"}),
    "merchant": frozenset({"merchant_state", *(feature.name for feature in MERCHANT_PROFILE_FEATURES)}),
}


@dataclass(frozen=True)
class Scoring:
    """The model of one tier, ready to score.

    Parameters
    ----------
    tier
        Its name.
    forest, calibration
        From the bundle.
    columns
        Place in ``FEATURE_NAMES`` of each input; null when it takes all of them in that order.
    explainer
        For exact attributions.
    """

    tier: Tier
    forest: Forest
    calibration: Calibration
    columns: npt.NDArray[np.intp] | None
    explainer: Explainer

    def row(self, vector: FloatArray) -> FloatArray:
        """Return the model's inputs out of a feature vector."""
        return vector if self.columns is None else vector[self.columns]

    def score(self, row: FloatArray) -> float:
        """Return the calibrated probability of fraud of the model's inputs."""
        return self.calibration.score(predict_margin(self.forest, row))

    def reasons(self, transaction: Transaction, vector: FloatArray, row: FloatArray) -> tuple[Reason, ...]:
        """Return the reasons for the score of ``row``, taken from ``vector``."""
        contributions = attributions(self.explainer, row)
        if self.columns is not None:
            spread = np.zeros(len(FEATURE_NAMES))
            spread[self.columns] = contributions
            contributions = spread
        return find_reasons(transaction, vector, contributions)


@dataclass(frozen=True)
class Model:
    """A bundle ready to serve.

    Parameters
    ----------
    bundle
        Verified.
    reader
        Of the bundle's read plan.
    full
        The model of the full tier.
    tiers
        Which model scores, by the entities that could not be read and by whether the stream is behind; a tier that the
        bundle has no model of is scored by the full one, with what is unread as missing values.
    places
        Where in the replies to the plan each entity's values lie.
    layout
        In which vectors are logged.
    """

    bundle: ModelBundle
    reader: CompiledReader
    full: Scoring
    tiers: Mapping[tuple[frozenset[Entity], bool], Scoring]
    places: tuple[EntityPlaces, ...]
    layout: VectorLayout

    def scoring(self, unread: Sequence[Entity], *, behind: bool) -> Scoring:
        """Return the model that scores a transaction; the full one at once when all is well."""
        if not unread and not behind:
            return self.full
        return self.tiers[frozenset(unread), behind]


def prepare_model(files: Mapping[str, bytes]) -> Model:
    """Return the model in a bundle's files: verified, checked against what this code can compute, and warm.

    Raises
    ------
    CorruptBundle
        It does not verify, takes a feature that nothing here computes, or its plan reads less than is needed.
    """
    bundle = open_bundle(files)
    plan = plan_from(bundle.plan)
    _check_plan(plan)
    full = _scoring(FULL, bundle.features, bundle.forest, bundle.calibration)
    known = {FULL: full} | {
        tier: _scoring(tier, held.features, held.forest, held.calibration) for tier, held in bundle.fallbacks.items()
    }
    subsets = [frozenset(c) for size in range(len(ENTITIES) + 1) for c in itertools.combinations(ENTITIES, size)]
    tiers = {
        (unread, behind): known.get(tier_for(unread, behind=behind), full)
        for unread in subsets
        for behind in (False, True)
    }
    model = Model(bundle, CompiledReader(plan), full, tiers, find_places(plan), layout_of(bundle.vector))
    warm(model)
    return model


def _scoring(tier: Tier, features: Sequence[str], forest: Forest, calibration: Calibration) -> Scoring:
    strangers = [name for name in features if name not in _PLACES]
    if strangers:
        named = "contract.json" if tier == FULL else f"fallback {tier}"
        raise CorruptBundle(f"{named} names features this version does not compute: {', '.join(strangers[:5])}")
    places = np.array([_PLACES[name] for name in features], np.intp)
    whole = np.array_equal(places, np.arange(len(FEATURE_NAMES)))
    return Scoring(tier, forest, calibration, None if whole else places, explain_with(forest))


def _check_plan(plan: ReadPlan) -> None:
    for entity, needed in _NEEDED.items():
        planned = next((p for p in plan.entities if p.entity == entity), None)
        if planned is None:
            raise CorruptBundle(f"plan.json reads no entity {entity!r}")
        absent = needed - {field.feature for field in planned.fields}
        if absent:
            raise CorruptBundle(f"plan.json does not read {', '.join(sorted(absent))} of {entity}")


def warm(model: Model) -> None:
    """Run every compiled kernel once, so that no customer waits for a compiler."""
    transaction = Transaction(
        transaction_id="warm",
        card_id="warm",
        merchant_id="warm",
        device_id="warm",
        ip="warm",
        amount_minor=100,
        currency="EUR",
        event_time_ms=1_700_000_000_000,
        channel="online",
        merchant_category=0,
        country="DE",
        latitude=0.0,
        longitude=0.0,
    )
    states: dict[Entity, bytes] = {
        entity: velocity.update(entity, b"", transaction_change(entity, transaction))[0] for entity in ENTITIES
    }
    nothing = Profiles(None, (math.nan,) * len(CARD_PROFILE_FEATURES), (math.nan,) * len(MERCHANT_PROFILE_FEATURES))
    scratch = new_scratch()
    evaluate_in_parts(transaction, states, nothing, scratch)  # what reads a state of an older version
    vector = evaluate(transaction, states, nothing, scratch)
    for scoring in {id(held): held for held in model.tiers.values()}.values():
        row = scoring.row(vector)
        scoring.score(row)
        scoring.reasons(transaction, vector, row)
