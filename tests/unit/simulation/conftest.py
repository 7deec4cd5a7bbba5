"""One small world, shared by the tests that only look at it."""

import pytest

from simulation.live import with_live_day
from simulation.world import World, WorldConfig, generate


@pytest.fixture(scope="session")
def world() -> World:
    return generate(WorldConfig(days=50, transactions_per_day=4_000, seed=3))


@pytest.fixture(scope="session")
def live_world() -> World:
    return generate(with_live_day(WorldConfig(days=12, transactions_per_day=4_000, seed=5), hour=17))
