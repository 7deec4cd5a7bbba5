"""Facts about every command line: each option says what it is."""

import argparse
import importlib
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from serving.__main__ import command_parser


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, command
    for word, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{name} {word}")


@pytest.mark.parametrize(
    "module",
    ["demo.command", "infra.__main__", "monitoring.__main__", "retraining.__main__", "simulation.__main__",
     "streaming.__main__", "training.__main__"],
)  # fmt: skip
def test_every_option_has_a_sentence(module: str) -> None:
    app = importlib.import_module(module).app
    silent = [
        f"{name} {option.opts[0]}"
        for name, command in commands(get_command(app), module.split(".", maxsplit=1)[0])
        for option in command.params
        if option.param_type_name == "option" and option.name != "help" and not option.help
    ]
    assert silent == []


@pytest.mark.parametrize(
    "module",
    ["demo.command", "infra.__main__", "monitoring.__main__", "retraining.__main__", "simulation.__main__",
     "streaming.__main__", "training.__main__"],
)  # fmt: skip
def test_json_is_a_file_or_a_dash_everywhere(module: str) -> None:
    app = importlib.import_module(module).app
    asked = [
        option
        for _, command in commands(get_command(app), module)
        for option in command.params
        if "--json" in option.opts
    ]
    assert asked
    for option in asked:
        assert not option.is_flag
        assert "- writes them to standard output" in option.help


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:  # argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


def test_the_container_speaks_as_the_other_rooms_without_their_library() -> None:
    options = [
        (parser.prog, option)
        for parser in parsers(command_parser())
        for option in parser._actions
        if option.option_strings
    ]
    assert [f"{prog} {option.option_strings[0]}" for prog, option in options if not option.help] == []
    asked = {prog: option for prog, option in options if "--json" in option.option_strings}
    assert set(asked) == {"serving rescore", "serving lists add", "serving lists remove", "serving lists show"}
    for option in asked.values():
        assert option.nargs is None
        assert "- writes them to standard output" in (option.help or "")
