"""What the commands of this room share: figures as one line of JSON, in a file or on standard output."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from botocore.utils import is_valid_endpoint_url

from infra.screens import show_json

JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Write the figures to this file too; - writes them to standard output.")
]


def checked_url(url: str) -> str:
    """Return an emulator's address, or end with a sentence and code 2 when it is none; empty means AWS."""
    if url and not (url.startswith(("http://", "https://")) and _has_port(url) and is_valid_endpoint_url(url)):
        raise typer.BadParameter(f"{url!r} is no address; one looks like http://127.0.0.1:5000")
    return url


def _has_port(url: str) -> bool:
    """Return whether a port is one, or none is given."""
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


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
