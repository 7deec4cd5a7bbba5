"""What the commands of this room share: what they found as text, as JSON, or both."""

import argparse
import sys
from pathlib import Path

import msgspec


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--json FILE`` to a command."""
    text = "write the figures to this file too; - writes them to standard output"
    parser.add_argument("--json", type=Path, metavar="FILE", help=text)


def tell(text: str, figures: object, json_file: Path | None) -> None:
    """Write a command's text to standard output, and its figures where they were asked for.

    Parameters
    ----------
    text
        Whole lines.
    figures
        What msgspec encodes.
    json_file
        A file, made with its folders; ``-`` for standard output, which is then for the JSON alone; or null.
    """
    encoded = b"" if json_file is None else msgspec.json.encode(figures) + b"\n"
    if str(json_file) == "-":
        sys.stdout.buffer.write(encoded)
        return
    sys.stdout.write(text)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_bytes(encoded)
