"""Templates as files: rendered from the code, committed, and compared so that what is reviewed is what is deployed."""

import json
from pathlib import Path
from typing import Any, Final

from infra.errors import StaleTemplates
from infra.stacks import STACKS, Stack

FOLDER: Final = Path(__file__).parent / "templates"


def render(stack: Stack) -> str:
    """Return a stack's template as YAML, the same on every run."""
    return str(stack.build().to_yaml(clean_up=False, long_form=True))


def as_data(stack: Stack) -> dict[str, Any]:
    """Return a stack's template as plain data, with long-form functions."""
    content: dict[str, Any] = json.loads(stack.build().to_json())
    return content


def write(folder: Path = FOLDER) -> list[Path]:
    """Write every template; return the files that changed."""
    changed = []
    folder.mkdir(parents=True, exist_ok=True)
    for stack in STACKS:
        path, text = folder / f"{stack.name}.yaml", render(stack)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


def check(folder: Path = FOLDER) -> None:
    """Compare the files with the code.

    Raises
    ------
    StaleTemplates
        They differ; the message names the files.
    """
    stale = [stack.name for stack in STACKS if _text(folder / f"{stack.name}.yaml") != render(stack)]
    if stale:
        files = ", ".join(f"infra/templates/{name}.yaml" for name in stale)
        raise StaleTemplates(f"{files} differ from the code; run 'python -m infra render' and review the difference")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
