"""``python -m serving lists``: add, remove and show the entries of the allow and block lists.

The times of an entry come from this machine's clock. Every change is written whole, or not at all, and a scorer that
watches takes it within a second from a file, within five from S3.
"""

import argparse
import getpass
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fraud.errors import InvalidSetting
from fraud.settings import PREFIX, read_settings
from fraud.windows import DAY
from serving.command_line import add_json_option, tell
from serving.list_bucket import is_in_s3, open_address
from serving.list_file import OWN_FILE, ListFiles
from serving.list_object import ListObjects
from serving.lists import LISTED, LISTS, ListEntry

MOST_DAYS: Final = 3650.0

LATEST_MS: Final = 253_402_300_799_999
"""The last that a calendar here can write."""


def add_list_commands(parser: argparse.ArgumentParser) -> None:
    """Add the commands' options to a parser."""
    commands = parser.add_subparsers(dest="list_command", required=True)
    add = commands.add_parser("add", help="list an entity; an entry that is there already is replaced")
    remove = commands.add_parser("remove", help="take an entity off a list; status 1 when it was not on it")
    show = commands.add_parser("show", help="show the entries in force")
    for command in (add, remove, show):
        text = f"file, or folder (entries go to {OWN_FILE}), here or s3://bucket/...; {PREFIX}LISTS without it"
        command.add_argument("--file", metavar="PLACE", help=text)
        add_json_option(command)
    for command in (add, remove):
        command.add_argument("--entity", choices=LISTED, required=True, help="what is listed")
        command.add_argument("--key", required=True, metavar="TOKEN", help="as it stands in transactions")
        command.add_argument("--list", choices=LISTS, required=True, help="allow approves, block declines")
    add.add_argument("--reason", required=True, help="why, for whoever finds it later")
    add.add_argument("--by", default="", metavar="NAME", help="who adds it; your login without it")
    add.add_argument("--days", type=float, default=30.0, help="how long it holds (default 30)")
    show.add_argument("--all", action="store_true", help="expired entries too")


def run_list_command(options: argparse.Namespace) -> int:
    """Run a command and return the status of the process.

    Raises
    ------
    InvalidSetting
        No file is named, or a number is out of range.
    InvalidList
        The file is malformed, or the entry is none.
    ListsContended, S3Unavailable, NoCredentials
        In S3 it cannot be done now.
    """
    place = _place(options.file)
    now_ms = time.time_ns() // 1_000_000
    if options.list_command == "show":
        return _show(place, now_ms, everything=options.all, json_file=options.json)
    if options.list_command == "remove":
        found = place.remove(options.entity, options.key, options.list)
        said = "removed" if found else f"not on the {options.list} list"
        tell(f"{said}\n", {"removed": found}, options.json)
        return 0 if found else 1
    if not 0.0 < options.days <= MOST_DAYS:
        raise InvalidSetting(f"--days {options.days:g} is not in 0..{MOST_DAYS:g}")
    entry = ListEntry(
        entity=options.entity,
        key=options.key,
        list=options.list,
        reason=options.reason,
        added_by=options.by or getpass.getuser(),
        added_ms=now_ms,
        expires_ms=now_ms + int(options.days * DAY),
    )
    replaced = place.add(entry)
    said = f"{'replaced' if replaced else 'added'}; in force until {_written(entry.expires_ms)}"
    tell(f"{said}\n", {"replaced": replaced, "entry": entry}, options.json)
    return 0


def _place(given: str | None) -> ListFiles | ListObjects:
    named = given or os.environ.get(f"{PREFIX}LISTS", "")
    if is_in_s3(named):
        settings = read_settings(os.environ)
        address = open_address(named, region=settings.region, endpoint=settings.aws_endpoint, environ=os.environ)
        return ListObjects(address)
    if Path(named) == Path():
        raise InvalidSetting(f"no file of lists: give --file, or set {PREFIX}LISTS")
    return ListFiles(Path(named))


def _show(place: ListFiles | ListObjects, now_ms: int, *, everything: bool, json_file: Path | None) -> int:
    entries = [entry for entry in place.entries() if everything or entry.expires_ms > now_ms]
    lines = [
        f"{entry.list}  {entry.entity}  {entry.key}  until {_written(entry.expires_ms)}  {entry.reason} "
        f"({entry.added_by})\n"
        for entry in entries
    ]
    tell("".join((*lines, f"{len(entries)} entries\n")), {"entries": entries}, json_file)
    return 0


def _written(time_ms: int) -> str:
    if time_ms > LATEST_MS:
        return "after the year 9999"
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="minutes")
