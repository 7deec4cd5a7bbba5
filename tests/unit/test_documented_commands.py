"""Every command that a document or a message of ``infra`` names exists and takes those options; blocks are whole."""

import argparse
import importlib
import re
from functools import cache
from typing import Any, NoReturn

import botocore.session
import pytest
from botocore import xform_name
from typer import BadParameter
from typer.exceptions import TyperException
from typer.main import get_command

from serving.__main__ import command_parser
from tests.support.documents import ROOT, Documented, advised, commands

PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]
ADVICE = [command for path in sorted((ROOT / "infra").glob("*.py")) for command in advised(path)]
DOCUMENTED = [*(command for page in PAGES for command in commands(page)), *ADVICE]
OURS = [command for command in DOCUMENTED if command.words[0].endswith("python")]
AWS = [command for command in DOCUMENTED if command.words[0] == "aws"]

# What the AWS command line has besides the services' own operations: its options, and positions after them.
CUSTOM = {
    ("s3", "cp"): ({"--recursive", "--sse", "--exclude", "--include"}, 2),
    ("s3", "ls"): ({"--recursive"}, 1),
    ("s3", "sync"): ({"--sse", "--exclude", "--include"}, 2),
    ("logs", "tail"): ({"--since", "--follow", "--format", "--filter-pattern", "--log-stream-name-prefix"}, 1),
    ("ecr", "get-login-password"): (set[str](), 0),
}
EVERYWHERE = {"--query", "--output", "--region", "--profile", "--cli-input-json", "--endpoint-url"}


class Refused(Exception):  # a fact, as the errors of the code are
    """A command line that is refused."""


@cache
def command_of(room: str) -> Any:
    return get_command(importlib.import_module("demo.command" if room == "demo" else f"{room}.__main__").app)


def parse(room: str, words: list[str], *, whole: bool) -> None:
    """Parse as the room's command line does; placeholders stand for values, so values are not judged."""
    command, name, line = command_of(room), room, list(words)
    while hasattr(command, "commands") and line and not line[0].startswith("-"):
        word = line.pop(0)
        if word not in command.commands:
            raise Refused(f"{name} has no command {word}; known are {', '.join(command.commands)}")
        command, name = command.commands[word], f"{name} {word}"
    if (not line and not whole) or "--help" in line:
        return
    try:
        command.make_context(name, line)
    except BadParameter as error:  # a placeholder that is no such file or number, or something that is not there at all
        if whole and type(error).__name__ == "MissingParameter":
            raise Refused(str(error)) from None
    except TyperException as error:
        raise Refused(str(error)) from None


def parse_serving(words: list[str], *, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: argparse.ArgumentParser, message: str) -> NoReturn:
        raise Refused(message)

    monkeypatch.setattr(argparse.ArgumentParser, "error", refuse)
    try:
        command_parser().parse_args(words)
    except Refused as refused:
        if whole or "required" not in str(refused):
            raise


@pytest.mark.parametrize("command", OURS, ids=str)
def test_command_of_ours_is_one_that_its_room_takes(command: Documented, monkeypatch: pytest.MonkeyPatch) -> None:
    words = list(command.words)
    module, rest = words[2], words[3:]
    room, _, below = module.partition(".")
    if below:
        assert (ROOT / room / f"{below}.py").is_file(), command
    elif room == "bench":
        from bench.__main__ import scripts

        assert {word for word in rest if re.fullmatch("[a-z_]+", word)} <= set(scripts()), command
    elif room == "serving":
        parse_serving(rest, whole=command.whole, monkeypatch=monkeypatch)
    else:
        parse(room, rest, whole=command.whole)


@cache
def model_of(service: str) -> Any:
    return botocore.session.get_session().get_service_model(service)


def options_of(words: tuple[str, ...]) -> tuple[set[str], int]:
    """Return a command's options, and how many other words it has."""
    options, others, skip = set[str](), 0, False
    for word in words:
        if word.startswith("--"):
            options.add(word.partition("=")[0])
            skip = True
        elif not skip:
            others += 1
        else:
            skip = False
    return options, others


@pytest.mark.parametrize("command", AWS, ids=str)
def test_command_of_aws_is_an_operation_with_its_members(command: Documented) -> None:
    _, service, verb, *rest = command.words
    options, others = options_of(tuple(rest))
    options -= EVERYWHERE
    if (service, verb) in CUSTOM:
        known, most = CUSTOM[service, verb]
        assert options <= known, command
        assert others <= most + len(options & {"--recursive", "--follow"}), command
        return
    if verb == "wait":
        client = botocore.session.get_session().create_client(service, region_name="eu-west-1")
        assert rest[0] in {name.replace("_", "-") for name in client.waiter_names}, command
        return
    model = model_of(service)
    operations = {xform_name(name, "-"): name for name in model.operation_names}
    assert verb in operations, command
    shape = model.operation_model(operations[verb]).input_shape
    members = {f"--{xform_name(name, '-')}": member for name, member in shape.members.items()}
    switches = {"--no-" + name[2:] for name, member in members.items() if member.type_name == "boolean"}
    assert options <= set(members) | switches, f"{command}: {sorted(options - set(members))}"
    if command.whole and "--cli-input-json" not in rest:
        needed = {f"--{xform_name(name, '-')}" for name in shape.required_members}
        assert needed <= options, f"{command}: misses {sorted(needed - options)}"


def test_commands_are_found_at_all() -> None:
    assert len(OURS) > 80
    assert len(AWS) > 40
    assert any(command.whole for command in AWS)
    assert {command.words[0] for command in ADVICE} == {"python", "aws"}
