"""The notebook runs as it stands, is as short as it says, and keeps no output."""

import ast
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebooks" / "from_question_to_model.ipynb"


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


def test_it_is_short_and_keeps_no_output() -> None:
    code = [cell for cell in read().cells if cell.cell_type == "code"]
    lines = [line for cell in code for line in cell.source.splitlines() if line.strip()]
    assert len(lines) < 40
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.filterwarnings("ignore")
def test_it_comes_from_the_question_to_a_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REPOSITORY", str(ROOT))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    client = NotebookClient(read(), timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})
    cells = [cell for cell in client.execute().cells if cell.cell_type == "code"]
    sets, figures = (ast.literal_eval(result_of(cell)) for cell in cells[-2:])
    assert set(sets) == {"train", "validation", "test"}
    assert all(found["leaks"] == 0 and found["frauds"] >= 30 for found in sets.values())
    assert sets["train"]["rows"] < 21 * 800
    assert figures["PR-AUC"] > 5 * figures["at random"]
    assert figures["ROC-AUC"] > 0.8


def result_of(cell: Any) -> str:
    (text,) = (output["data"]["text/plain"] for output in cell.outputs if output["output_type"] == "execute_result")
    return str(text).replace("np.float64(", "").replace(")", "")
