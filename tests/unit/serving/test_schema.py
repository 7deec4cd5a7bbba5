"""The published schema says what answers say."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

from fraud.policy import Override
from fraud.tiers import TIERS
from serving.answers import Answer
from serving.schema import openapi

ROOT = Path(__file__).parents[3]


def test_an_answer_names_tier_segment_and_override_with_every_value_they_can_have() -> None:
    properties = openapi("EUR")["components"]["schemas"]["Answer"]["properties"]
    assert set(properties) == set(Answer.__struct_fields__)
    assert set(properties["tier"]["enum"]) == set(TIERS)
    assert set(properties["override"]["enum"]) == set(get_args(Override))
    assert properties["segment"]["type"] == "string"


def test_the_published_document_is_the_one_that_the_command_prints() -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TOLLGATE_")}
    command = [sys.executable, "-m", "serving", "schema"]
    printed = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, check=True).stdout
    assert (ROOT / "docs" / "openapi.json").read_bytes() == printed, (
        "python -m serving schema > docs/openapi.json makes it again"
    )
    other = subprocess.run(
        command, cwd=ROOT, env={**environ, "TOLLGATE_CURRENCY": "SEK"}, capture_output=True, check=True
    ).stdout
    assert json.loads(other)["components"]["schemas"]["Transaction"]["properties"]["currency"] == {"const": "SEK"}
