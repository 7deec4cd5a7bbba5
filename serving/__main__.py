"""The container's entry point: ``serve``, as SageMaker starts it; and ``rescore``, ``sign``, ``schema``, ``lists``.

It uses the standard library's argument parser: the container carries no command-line library.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from fraud.errors import TollgateError, sentence
from fraud.settings import read_settings
from serving.command_line import add_json_option
from serving.list_command import add_list_commands, run_list_command


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and end the process; an error is one sentence on stderr and status 1."""
    options = command_parser().parse_args(sys.argv[1:] if arguments is None else arguments)
    try:
        status = _COMMANDS.get(options.command, _serve)(options)
    except (TollgateError, OSError) as error:
        sys.stderr.write(f"serving: {sentence(error)}\n")
        status = 1
    sys.exit(status)


def command_parser() -> argparse.ArgumentParser:
    """Return what knows every command with its options."""
    parser = argparse.ArgumentParser(prog="serving", description="Score payments, or make logged decisions again.")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("serve", help="serve until SIGTERM (the default); settings are TOLLGATE_... variables")
    again = commands.add_parser("rescore", help="make the decisions of a log again; status 1 on any difference")
    _add_rescore_options(again)
    add_list_commands(commands.add_parser("lists", help="add, remove and show entries of the allow and block lists"))
    commands.add_parser("schema", help="print the OpenAPI description of these settings' scorer")
    sign = commands.add_parser("sign", help="sign a bundle, for scorers that serve signed ones only")
    sign.add_argument("--model", type=Path, required=True, metavar="DIR", help="a bundle")
    sign.add_argument("--key-file", required=True, metavar="FILE", help="the key, 32 bytes or more")
    return parser


def _add_rescore_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--log",
        required=True,
        metavar="PLACE",
        help="the decision log: a folder of JSON lines or Parquet, or s3://bucket/prefix of Parquet",
    )
    parser.add_argument(
        "--model", type=Path, required=True, action="append", metavar="DIR", help="a bundle; repeatable"
    )
    parser.add_argument("--decision", default="", metavar="ID", help="this decision only, shown with its reasons")
    parser.add_argument(
        "--policy",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="count outcomes under this policy instead, tiers and segments included: a bundle's policy.json, or one "
        "written like it; one for all models, or one for each --model in their order",
    )
    text = "the same with each bundle's own policy but for this threshold of its full tier"
    parser.add_argument("--review-at", type=float, help=text)
    parser.add_argument("--decline-at", type=float, help=text)
    add_json_option(parser)


def _sign(options: argparse.Namespace) -> int:
    from stores.bundle_signature import read_key, sign_bundle

    key = read_key(options.key_file)
    if key is not None:
        sys.stdout.write(f"{sign_bundle(options.model, key)}\n")
    return 0 if key is not None else 1


def _serve(_options: argparse.Namespace) -> int:
    from serving.logs import start_logging
    from serving.server import serve

    settings = read_settings(os.environ)
    start_logging()
    return serve(settings)


def _schema(_options: argparse.Namespace) -> int:
    from serving.schema import openapi

    described = msgspec.json.encode(openapi(read_settings(os.environ).currency))
    sys.stdout.buffer.write(msgspec.json.format(described, indent=2) + b"\n")
    return 0


def _rescore(options: argparse.Namespace) -> int:
    from serving.rescore_command import run_rescore_command

    return run_rescore_command(options)


_COMMANDS: Final = {"rescore": _rescore, "sign": _sign, "schema": _schema, "lists": run_list_command}

if __name__ == "__main__":
    main()
