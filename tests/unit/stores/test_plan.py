from collections.abc import Callable
from typing import cast

import hiredis
import pytest

from stores.plan import CompiledReader
from tests.support.bundles import read_plan

PACK = cast(Callable[[tuple[bytes, ...]], bytes], hiredis.pack_command)


@pytest.mark.parametrize("value", ["", "c1", "ç" * 64, "x" * 128])
def test_the_packed_payload_is_the_commands_packed(value: str) -> None:
    reader = CompiledReader(read_plan())
    keys = {"card_id": value, "device_id": "", "ip": value, "merchant_id": value[::-1]}
    assert reader.payload(keys) == b"".join(map(PACK, reader.commands(keys)))


@pytest.mark.parametrize("value", ["", "c1", "ç" * 64, "a{b}c"])
def test_each_packed_command_stands_beside_its_key(value: str) -> None:
    reader = CompiledReader(read_plan())
    keys = {"card_id": value, "device_id": "", "ip": value, "merchant_id": value[::-1]}
    assert reader.packed(keys) == [(command[1], PACK(command)) for command in reader.commands(keys)]
