"""A stream that began anew from an empty store before yesterday's history was loaded."""

import math
from dataclasses import dataclass

import numpy as np

from fraud import velocity
from fraud.ring import new_scratch
from fraud.velocity import Changes
from fraud.windows import KINDS, VELOCITY_FEATURES
from streaming.states import Held, Key, States, Swap
from tests.support.lakes import DAY_MS
from tests.support.payments import payment

KEYS: tuple[Key, ...] = (("card", "c1"), ("device", "d1"), ("ip", "i1"), ("merchant", "m1"))
COUNT = 15
GAP_MS = 9_000


def changes_today(key: Key, first_ms: int) -> Changes:
    """Return what the stream brings of one entity, from a time on that lies behind the batch."""
    made = [payment(number, time_ms=first_ms + number * GAP_MS) for number in range(COUNT)]
    return np.concatenate([velocity.transaction_change(key[0], item) for item in made])


def stream_today(states: States, first_ms: int) -> dict[Key, Held]:
    """Write today's stream over what is held, as a worker would; return what is held then."""
    for key in KEYS:
        (read,) = states.read([key])
        state, took = velocity.update(key[0], read.state, changes_today(key, first_ms))
        assert not took or states.swap([Swap(key, read, state, read.revision + took)]) == [True]
    return dict(zip(KEYS, states.read(KEYS), strict=True))


@dataclass(frozen=True)
class Recovered:
    """What is held when history was there first, and when it came after."""

    first_ms: int
    in_order: dict[Key, Held]
    joined: dict[Key, Held]

    def check(self) -> None:
        """Hold the states that came the other way round to those that came in order."""
        for key, held in self.joined.items():
            assert held.revision == self.in_order[key].revision, key
            if KINDS[key[0]] == "ring":
                assert held.state == self.in_order[key].state, key
                continue
            for later_ms in (1, 70_000, DAY_MS):
                one, other = (_values(key, some.state, self.first_ms + later_ms) for some in (held, self.in_order[key]))
                assert one == other, key
                assert one[f"{key[0]}_transaction_count_30d"] > COUNT

    def repeated(self) -> dict[Key, Held]:
        """Return what the stream over again makes of what was joined."""
        out = {}
        for key, held in self.joined.items():
            state, _ = velocity.update(key[0], held.state, changes_today(key, self.first_ms))
            out[key] = Held(state, held.revision, held.stored)
        return out


def _values(key: Key, state: bytes, after_ms: int) -> dict[str, float]:
    """Return every value but what was unusually large, which the stream judged by what it knew."""
    asked = velocity.Question(after_ms + COUNT * GAP_MS, 0)
    values = velocity.read(key[0], state, asked, new_scratch()).tolist()
    named = zip(VELOCITY_FEATURES[key[0]], values, strict=True)
    return {
        feature.name: -1.0 if math.isnan(value) else value for feature, value in named if "large" not in feature.name
    }
