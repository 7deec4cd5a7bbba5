import msgspec
import numpy as np
import pytest

from fraud.errors import CorruptBundle
from fraud.features import FEATURE_NAMES
from fraud.shap import attributions
from fraud.windows import ENTITIES
from serving.model import prepare_model
from stores.plan import plan_data
from tests.support.bundles import bundle_files, read_plan, resealed
from tests.support.scorers import payment


def test_columns_lead_from_the_feature_vector_to_the_models_own_order() -> None:
    chosen = tuple(reversed(FEATURE_NAMES))[5:60]
    model = prepare_model(bundle_files(features=chosen))
    vector = np.arange(len(FEATURE_NAMES), dtype=np.float64)
    assert [FEATURE_NAMES[int(value)] for value in model.full.row(vector)] == list(chosen)


def test_a_model_of_all_features_in_order_takes_the_vector_as_it_is() -> None:
    model = prepare_model(bundle_files())
    vector = np.arange(len(FEATURE_NAMES), dtype=np.float64)
    assert model.full.columns is None
    assert model.full.row(vector) is vector


def test_reasons_of_a_partial_model_are_told_under_the_right_names() -> None:
    chosen = tuple(reversed(FEATURE_NAMES))[5:60]
    model = prepare_model(bundle_files(features=chosen))
    vector = np.random.default_rng(3).gamma(1.0, 20.0, len(FEATURE_NAMES))
    row = model.full.row(vector)
    reasons = model.full.reasons(payment(), vector, row)
    positive = attributions(model.full.explainer, row)
    assert reasons
    assert reasons[0].weight <= positive[positive > 0].sum() + 1e-3


def test_a_feature_nobody_computes_is_refused_by_name() -> None:
    files = bundle_files(features=(*FEATURE_NAMES[:30], "card_shoe_size"))
    with pytest.raises(CorruptBundle, match="card_shoe_size"):
        prepare_model(files)


@pytest.mark.parametrize("entity", ENTITIES)
def test_a_plan_that_reads_too_little_is_refused(entity: str) -> None:
    files = dict(bundle_files())
    plan = read_plan()
    short = msgspec.structs.replace(plan, entities=tuple(e for e in plan.entities if e.entity != entity))
    with pytest.raises(CorruptBundle, match=entity):
        prepare_model(resealed(files, plan=msgspec.json.encode(plan_data(short))))


def test_a_plan_without_a_needed_feature_is_refused_by_name() -> None:
    plan = read_plan()
    card = plan.entities[0]
    poor = msgspec.structs.replace(card, fields=tuple(f for f in card.fields if f.feature != "card_age_days"))
    short = msgspec.structs.replace(plan, entities=(poor, *plan.entities[1:]))
    with pytest.raises(CorruptBundle, match="card_age_days"):
        prepare_model(resealed(bundle_files(), plan=msgspec.json.encode(plan_data(short))))
