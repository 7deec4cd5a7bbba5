import json
import subprocess
import sys
from pathlib import Path

import pytest

from infra import rendering
from infra.errors import StaleTemplates
from infra.stacks import STACKS

ROOT = Path(__file__).resolve().parents[3]


def test_committed_templates_are_what_the_code_renders() -> None:
    rendering.check()


def test_rendering_is_the_same_in_another_process() -> None:
    program = "from infra import rendering, stacks; print([rendering.render(s) for s in stacks.STACKS])"
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True, env=environment)
    assert other.stdout == f"{[rendering.render(stack) for stack in STACKS]}\n"


def test_changed_template_is_named(tmp_path: Path) -> None:
    assert len(rendering.write(tmp_path)) == len(STACKS)
    assert rendering.write(tmp_path) == []
    (tmp_path / "data.yaml").write_text("Resources: {}\n")
    with pytest.raises(StaleTemplates, match=r"infra/templates/data\.yaml differ"):
        rendering.check(tmp_path)
    assert [path.name for path in rendering.write(tmp_path)] == ["data.yaml"]


def test_templates_fit_into_a_request() -> None:
    assert max(len(rendering.render(stack).encode()) for stack in STACKS) < 51_200


def test_no_template_holds_a_secret_or_an_account() -> None:
    for stack in STACKS:
        text = json.dumps(rendering.as_data(stack))
        assert "123456789012" not in text
        assert text.count("AuthToken") == text.count("{{resolve:secretsmanager:${StorePassword}:SecretString}}")
