"""A live hour cut out of a world, for replaying: the peak hour of its last day, and the history before it."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud.errors import InvalidSetting
from simulation.randomness import DAY_MS, HOUR_MS
from simulation.world import World, WorldConfig


@dataclass(frozen=True)
class LiveHour:
    """One hour of payments with the same cards, merchants and devices as the history before it.

    Attributes
    ----------
    start_ms
        First moment of the hour, epoch milliseconds.
    transactions, truth
        The hour's rows, in order of event time; see :class:`simulation.world.World`.
    """

    start_ms: int
    transactions: pa.Table
    truth: pa.Table


def with_live_day(config: WorldConfig, *, hour: int = 18, multiplier: float | None = None) -> WorldConfig:
    """Return ``config`` with one more day, a payday with its peak, and staged fraud, at ``hour`` (UTC)."""
    surplus = config.peak_multiplier if multiplier is None else multiplier
    return replace(config, days=config.days + 1, peak_hour=hour, peak_multiplier=surplus)


def split_live_hour(world: World, *, future_labels: bool = False) -> tuple[World, LiveHour]:
    """Split ``world`` at its peak hour.

    Parameters
    ----------
    world
        A world with a peak hour, as made from :func:`with_live_day`.
    future_labels
        Keep the history's labels that arrive after the hour has begun. By default the history holds only what was
        known at that moment.

    Returns
    -------
    tuple
        The history (everything before the hour, at most the first hours of the last day) and the hour. What follows
        the hour is left out of both.

    Raises
    ------
    InvalidSetting
        The world has no peak hour.
    """
    start = world.config.peak_start_ms
    if start is None:
        raise InvalidSetting("the world has no peak hour; make it from with_live_day(config)")
    time = world.transactions["event_timestamp"].cast(pa.int64()).to_numpy() // 1000
    first, last = np.searchsorted(time, [start, start + HOUR_MS]).tolist()
    past = world.transactions[:first]
    known = pc.is_in(world.labels["transaction_id"], value_set=past["transaction_id"].combine_chunks())
    if not future_labels:
        arrived = world.labels["created_timestamp"].cast(pa.int64()).to_numpy() // 1000
        known = pc.and_(known, pa.chunked_array([pa.array(arrived < start)]))
    days = -(-(start - world.config.start_ms) // DAY_MS)
    history = World(
        config=replace(world.config, days=days, peak_hour=None),
        transactions=past,
        labels=world.labels.filter(known),
        truth=world.truth[:first],
    )
    return history, LiveHour(start, world.transactions[first:last], world.truth[first:last])
