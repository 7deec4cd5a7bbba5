"""The container's entry point: ``serve``, as SageMaker starts it; and ``rescore``, ``sign``, ``schema``, ``lists``.

It uses the standard library's argument parser: the container carries no command-line library.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import msgspec

from fraud.errors import TollgateError
from fraud.settings import read_settings
from serving.list_command import add_list_commands, run_list_command


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and end the process; an error is one sentence on stderr and status 1."""
    options = _parser().parse_args(sys.argv[1:] if arguments is None else arguments)
    try:
        status = _COMMANDS.get(options.command, _serve)(options)
    except TollgateError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        status = 1
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="serving", description="Score payments, or make logged decisions again.")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("serve", help="serve until SIGTERM (the default); settings are TOLLGATE_... variables")
    again = commands.add_parser("rescore", help="make the decisions of a log again; status 1 on any difference")
    again.add_argument("--log", type=Path, required=True, metavar="DIR", help="directory of the decision log")
    again.add_argument("--model", type=Path, required=True, action="append", metavar="DIR", help="a bundle; repeatable")
    again.add_argument("--decision", default="", metavar="ID", help="this decision only")
    again.add_argument("--review-at", type=float, help="count outcomes under this threshold instead")
    again.add_argument("--decline-at", type=float, help="count outcomes under this threshold instead")
    again.add_argument("--json", action="store_true", help="write the result as JSON")
    add_list_commands(commands.add_parser("lists", help="add, remove and show entries of the allow and block lists"))
    commands.add_parser("schema", help="print the OpenAPI description of these settings' scorer")
    sign = commands.add_parser("sign", help="sign a bundle, for scorers that serve signed ones only")
    sign.add_argument("--model", type=Path, required=True, metavar="DIR", help="a bundle")
    sign.add_argument("--key-file", required=True, metavar="FILE", help="the key, 32 bytes or more")
    return parser


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
    from fraud.bundle import open_bundle
    from serving.rescore import rescore
    from stores.bundle_files import read_bundle

    opened = [open_bundle(read_bundle(directory)) for directory in options.model]
    policy = None
    if options.review_at is not None or options.decline_at is not None:
        own = opened[0].policy
        review = own.review_at if options.review_at is None else options.review_at
        decline = own.decline_at if options.decline_at is None else options.decline_at
        policy = replace(own, version="other", review_at=review, decline_at=decline)
    bundles = {bundle.version: bundle for bundle in opened}
    found = rescore(options.log, bundles, policy=policy, decision_id=options.decision)
    if options.json:
        sys.stdout.buffer.write(msgspec.json.encode(asdict(found)) + b"\n")
    else:
        sys.stdout.write(
            f"{found.compared} decisions made again, {found.different} different, "
            f"{found.other_model} of another model, {found.unreadable} unreadable lines\n"
        )
        for change, count in sorted(found.outcomes.items()):
            sys.stdout.write(f"  {change}: {count}\n")
        for decision_id in found.differences:
            sys.stdout.write(f"  different: {decision_id}\n")
    return 0 if found.compared and not (found.different or found.unreadable) else 1


_COMMANDS: Final = {"rescore": _rescore, "sign": _sign, "schema": _schema, "lists": run_list_command}

if __name__ == "__main__":
    main()
