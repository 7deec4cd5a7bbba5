"""Cards and their holders: how often, how much, where, with which device, and when they travel."""

from dataclasses import dataclass

import numpy as np

from simulation.config import WorldConfig
from simulation.geography import Cities
from simulation.merchants import Market
from simulation.randomness import DAY_MS, BoolArray, FloatArray, IntArray, Tokens, lognormal, stream, weighted
from simulation.seasons import PAYDAYS

COUNTER_FAVOURITES = 6
ONLINE_FAVOURITES = 5


@dataclass(frozen=True)
class Trips:
    """Journeys sorted by card and start: while one lasts, the card pays at counters in its city."""

    key: IntArray
    card: IntArray
    until: IntArray
    city: IntArray
    start_ms: int
    span_ms: int

    def city_at(self, card: IntArray, time: IntArray) -> tuple[BoolArray, IntArray]:
        """Return whether each card is on a journey at its time, and where (meaningless when it is not)."""
        key = card * self.span_ms + (time - self.start_ms)
        last = np.searchsorted(self.key, key, side="right") - 1
        inside = np.maximum(last, 0)
        away = (last >= 0) & (self.card[inside] == card) & (time < self.until[inside])
        return away, self.city[inside]


@dataclass(frozen=True)
class Cards:
    """Every card; a card's number is its position in each array, shape ``(cards,)`` unless said.

    Attributes
    ----------
    rate
        Relative number of visits.
    spend
        Factor on a merchant's usual price.
    online_share, app_share
        Share of remote payments, and of those the share made in an app.
    city
        Home.
    tightness
        How easily the account runs dry before payday, 0 to 1.
    payday
        Position in ``PAYDAYS``.
    first_ms, last_ms
        In use within ``[first_ms, last_ms)``.
    counter_favourites, online_favourites
        Merchants visited again and again, shape ``(cards, favourites)``.
    device, second_device, next_device
        Usual device (shared within a household), a second one, and the one that replaces the first at ``renewed_ms``.
    home_ip
        Address at home, shared within a household.
    """

    rate: FloatArray
    spend: FloatArray
    online_share: FloatArray
    app_share: FloatArray
    city: IntArray
    tightness: FloatArray
    payday: IntArray
    first_ms: IntArray
    last_ms: IntArray
    counter_favourites: IntArray
    online_favourites: IntArray
    device: IntArray
    second_device: IntArray
    next_device: IntArray
    renewed_ms: IntArray
    home_ip: IntArray
    trips: Trips

    @property
    def count(self) -> int:
        """Number of cards."""
        return len(self.rate)

    def in_use(self, card: IntArray, time: IntArray) -> BoolArray:
        """Return whether each card exists at its time."""
        return (time >= self.first_ms[card]) & (time < self.last_ms[card])


def draw_cards(config: WorldConfig, cities: Cities, market: Market, devices: Tokens, ips: Tokens) -> Cards:
    """Draw the cards of the world."""
    rng = stream(config.seed, "cards")
    count, span = config.cards, config.days * DAY_MS
    city = weighted(rng, cities.residents, count)
    country = cities.country[city]
    abroad = rng.random((count, ONLINE_FAVOURITES)) < 0.3
    online = [
        np.where(
            abroad[:, slot],
            market.online.pick(rng, np.zeros(count, np.int64)),
            market.online_by_country.pick(rng, country),
        )
        for slot in range(ONLINE_FAVOURITES)
    ]
    arrives, leaves = rng.random(count) < 0.12, rng.random(count) < 0.05
    head = _heads_of_household(rng, count)
    return Cards(
        rate=lognormal(rng, 1.0, 0.85, count),
        spend=lognormal(rng, 1.0, 0.5, count),
        online_share=rng.beta(1.6, 3.2, count),
        app_share=rng.beta(1.2, 1.6, count),
        city=city,
        tightness=rng.beta(0.7, 2.4, count),
        payday=rng.integers(0, len(PAYDAYS), count),
        first_ms=config.start_ms + np.where(arrives, rng.random(count) * span, 0).astype(np.int64),
        last_ms=config.start_ms + np.where(leaves, rng.random(count) * span, span).astype(np.int64),
        counter_favourites=np.stack([market.at_counter.pick(rng, city) for _ in range(COUNTER_FAVOURITES)], axis=1),
        online_favourites=np.stack(online, axis=1),
        device=devices.new(count)[head],
        second_device=devices.new(count),
        next_device=devices.new(count)[head],
        renewed_ms=config.start_ms + (rng.exponential(300 * DAY_MS, count)).astype(np.int64),
        home_ip=ips.new(count)[head],
        trips=_draw_trips(config, cities, city),
    )


def _heads_of_household(rng: np.random.Generator, count: int) -> IntArray:
    """Return for each card the card whose device and address it uses: mostly itself."""
    head = np.arange(count, dtype=np.int64)
    shared = np.flatnonzero(rng.random(count) < 0.18)
    shared = shared[shared > 0]
    head[shared] = shared - 1
    return head


def _draw_trips(config: WorldConfig, cities: Cities, home: IntArray) -> Trips:
    """Draw journeys, about one for each card in 70 days, a few days long, domestic or abroad."""
    rng = stream(config.seed, "trips")
    span = config.days * DAY_MS
    number = rng.poisson(config.days / 70, len(home))
    card = np.repeat(np.arange(len(home), dtype=np.int64), number)
    offset = (rng.random(len(card)) * span).astype(np.int64)
    length = (np.clip(lognormal(rng, 4.0, 0.7, len(card)), 0.5, 30) * DAY_MS).astype(np.int64)
    city = weighted(rng, cities.visitors, len(card))
    key = card * span + offset
    order = np.argsort(key, kind="stable")
    if not len(order):
        one = np.zeros(1, np.int64)
        return Trips(key=one, card=one - 1, until=one, city=one, start_ms=config.start_ms, span_ms=span)
    return Trips(
        key=key[order],
        card=card[order],
        until=(config.start_ms + offset + length)[order],
        city=city[order],
        start_ms=config.start_ms,
        span_ms=span,
    )
