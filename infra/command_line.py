"""What the commands of this room share: figures as one line of JSON, in a file or on standard output."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from infra.screens import show_json

JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Write the figures to this file too; - writes them to standard output.")
]


def wants_only_json(json_file: Path | None) -> bool:
    """Return whether standard output is for the JSON alone."""
    return str(json_file) == "-"


def write_figures(figures: Mapping[str, Any] | Sequence[Any], json_file: Path | None) -> None:
    """Write figures as JSON where they were asked for."""
    if json_file is None:
        return
    if wants_only_json(json_file):
        typer.echo(show_json(figures))
        return
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(show_json(figures) + "\n", encoding="utf-8")


def tell(text: str, figures: Mapping[str, Any], json_file: Path | None) -> None:
    """Say what was done, and write its figures where they were asked for."""
    if not wants_only_json(json_file):
        typer.echo(text)
    write_figures(figures, json_file)
