"""The published schema says what answers say."""

from typing import get_args

from fraud.policy import Override
from fraud.tiers import TIERS
from serving.answers import Answer
from serving.schema import openapi


def test_an_answer_names_tier_segment_and_override_with_every_value_they_can_have() -> None:
    properties = openapi()["components"]["schemas"]["Answer"]["properties"]
    assert set(properties) == set(Answer.__struct_fields__)
    assert set(properties["tier"]["enum"]) == set(TIERS)
    assert set(properties["override"]["enum"]) == set(get_args(Override))
    assert properties["segment"]["type"] == "string"
