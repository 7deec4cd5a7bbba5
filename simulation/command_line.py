"""What the commands of this room share: figures as JSON, and failures in one sentence."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from fraud.errors import TollgateError, sentence

JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Write the figures to this file too; - writes them to standard output.")
]


def wants_only_json(json_file: Path | None) -> bool:
    """Return whether standard output is for the JSON alone."""
    return str(json_file) == "-"


def check_writable(file: Path | None) -> None:
    """Refuse a file that cannot be written, before anything is computed for it; its folder is made.

    Raises
    ------
    OSError
        What the disk says.
    """
    if file is None or wants_only_json(file):
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    new = not file.exists()
    with file.open("ab"):
        pass
    if new:
        file.unlink()


def write_figures(figures: Mapping[str, object], json_file: Path | None) -> None:
    """Write figures as JSON where they were asked for."""
    if json_file is None:
        return
    text = json.dumps(figures, indent=1, allow_nan=False)
    if wants_only_json(json_file):
        typer.echo(text)
        return
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(text + "\n", encoding="utf-8")


class OneSentence:
    """Turns an expected error into one sentence and status 2."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Say it and end."""
        if isinstance(error, (TollgateError, OSError)):
            typer.echo(f"simulation: {sentence(error)}", err=True)
            raise typer.Exit(2) from None
