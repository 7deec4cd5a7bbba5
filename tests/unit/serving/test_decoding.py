import math
import random

import pytest

from serving.decoding import (
    UNREADABLE,
    decode_number,
    decode_profile_time,
    decode_revision,
    decode_state,
    decode_text,
    decode_time,
)
from stores.layout import Value, decode_timestamp, decode_value, encode_moment, encode_timestamp, encode_value

VALUES: list[Value] = [None, "", "DE", b"", b"x", True, False, 0, -1, -(2**63), 2**63 - 1, 0.0, -0.0, 1e300, math.inf]
VALUES += [2**bits + step for bits in range(1, 62) for step in (-1, 0)]
VALUES += [bytes(length) for length in (1, 2, 126, 127, 128, 129, 16_383, 16_384, 70_000)]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_each_decoder_says_what_the_general_one_says(value: Value) -> None:
    data = encode_value(value)
    held = decode_value(data)
    assert decode_state(data) == (held if isinstance(held, bytes) else b"")
    number = decode_number(data)
    assert number == float(held) if isinstance(held, int | float) else math.isnan(number)
    assert decode_text(data) == (held if isinstance(held, str) and held else None)
    assert decode_revision(data) == (held if isinstance(held, int) else 0)


def test_times_are_what_the_general_decoder_says() -> None:
    draw = random.Random(1)
    times = [0, 1, 999, 1000, 127_000, 2**28 * 1000, 2**35 * 1000 - 1, 2**35 * 1000, -1, -1000, -(10**12)]
    times += [draw.randrange(10**13) for _ in range(500)]
    stored = [encode_timestamp(time) for time in times] + [encode_moment(time * 1000 + 7) for time in times]
    for data in stored:
        assert decode_time(data) == decode_profile_time(data) == decode_timestamp(data)
    assert decode_time(None) is None


def test_torn_values_raise_what_costs_their_entity_only_or_say_nothing() -> None:
    for value in (b"abc", 5000, 1.5, "DE"):
        data = encode_value(value)
        for length in range(1, len(data)):
            for decode in (decode_state, decode_number, decode_text):
                try:
                    decode(data[:length])
                except UNREADABLE:
                    continue
            decode_revision(data[:length])
            decode_time(data[:length])
