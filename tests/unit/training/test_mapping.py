"""A mapping says what it can say, and anything else is an error that names the key."""

import re
from pathlib import Path

import pytest

from training.errors import InvalidMapping, InvalidTokenKey, UnknownFormat
from training.mapping import Mapping, find_mapping, parse_mapping, shipped_mappings
from training.tokens import read_token_key

LEAST = """
name = "least"
currency = "JPY"
transaction_id = { derived = true }
card_id = { columns = ["card"] }
merchant_id = { columns = ["shop"] }
event_time = { columns = ["at"] }
amount = { column = "yen", unit = "major" }
channel = { constant = "online" }
merchant_category = { constant = 5999 }
country = { constant = "JP" }
"""


def parsed(text: str) -> Mapping:
    return parse_mapping(text.encode(), "mine.toml")


def test_the_least_mapping_has_defaults_for_the_rest() -> None:
    mapping = parsed(LEAST)
    assert mapping.decimals == 0
    assert mapping.wanted() == ("card", "shop", "at", "yen")
    assert mapping.label is None
    assert mapping.file.delimiter == ","


def test_every_ready_mapping_is_one_and_has_its_own_digest() -> None:
    found = [find_mapping(name) for name in shipped_mappings()]
    assert [mapping.name for mapping in found] == list(shipped_mappings())
    assert len({mapping.digest() for mapping in found}) == len(found) == 5


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('columns = ["card"]', 'kolumns = ["card"]', "unknown field `kolumns` in `card_id"),
        ('columns = ["card"]', "columns = []", "in `card_id.columns"),
        ('card_id = { columns = ["card"] }', "", "missing required field `card_id`"),
        ('"JPY"', '"yen"', "in `currency"),
        ('unit = "major"', 'unit = "cents"', "in `amount.unit"),
        ("{ derived = true }", "{ }", "transaction_id takes either `columns` or `derived = true`"),
        ("{ derived = true }", '{ derived = true, columns = ["x"] }', "transaction_id takes either"),
        ('{ constant = "JP" }', "{ }", "country takes either `constant` or `column`"),
        ('{ constant = "JP" }', '{ constant = "JP", column = "land" }', "country takes either"),
        ('"online"', '"fax"', "channel 'fax' is none of pos, online, app, moto"),
        ('columns = ["at"]', 'columns = ["at"], zone = "Berlin"', "event_time.zone 'Berlin' is no IANA time zone"),
        ('columns = ["at"]', 'columns = ["at", "b"], unit = "s"', "event_time is a number of `unit`"),
        ("name =", "name", "is no TOML"),
    ],
)  # fmt: skip
def test_what_a_mapping_cannot_say_is_named(old: str, new: str, said: str) -> None:
    assert old in LEAST
    with pytest.raises(InvalidMapping, match=re.escape(said)):
        parsed(LEAST.replace(old, new, 1))


def test_a_delay_that_is_no_duration_is_named() -> None:
    label = '[label]\ncolumn = "fraud"\nfraud = ["1"]\ndelay = "a month"\n'
    with pytest.raises(Exception, match=r"label.delay 'a month' is not a duration such as 30d"):
        parsed(LEAST + label)


def test_a_mapping_is_found_by_name_or_path(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(LEAST)
    assert find_mapping(str(tmp_path / "mine.toml")).name == "least"
    with pytest.raises(InvalidMapping, match=r"absent\.toml: No such file"):
        find_mapping(str(tmp_path / "absent.toml"))
    with pytest.raises(UnknownFormat, match="'paysim' is unknown; known: handbook"):
        find_mapping("paysim")


def test_a_token_key_is_long_enough_and_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(InvalidTokenKey, match="openssl rand -hex 32 > key"):
        read_token_key(path)
    path.write_bytes(b"short\n")
    with pytest.raises(InvalidTokenKey, match="holds 5 bytes, at least 16"):
        read_token_key(path)
    path.write_bytes(b"0123456789abcdef\n")
    key = read_token_key(path)
    assert "0123" not in repr(key)
    assert key.token("c1") == key.token("c1") != key.token("c2")
