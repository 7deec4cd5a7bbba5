"""Merchants: sizes that follow Zipf's law, categories, places, prices, and who takes subscriptions."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from simulation.config import WorldConfig
from simulation.geography import Cities
from simulation.randomness import BoolArray, FloatArray, IntArray, Picker, lognormal, stream, weighted

# Category code, usual price in minor units, share of merchants.
_AT_COUNTER: Final = (
    (5411, 2800, 20),
    (5812, 3500, 16),
    (5814, 850, 12),
    (5541, 5200, 8),
    (4111, 260, 5),
    (5912, 1700, 8),
    (5651, 5500, 8),
    (5732, 15000, 4),
    (7011, 14000, 4),
    (5311, 4500, 6),
    (7523, 320, 4),
    (5462, 520, 5),
)
_ONLINE: Final = (
    (5399, 4200, 16),
    (5734, 3900, 6),
    (5815, 700, 6),
    (5816, 380, 7),
    (4814, 2200, 5),
    (4899, 1200, 5),
    (5968, 1800, 5),
    (4511, 19000, 4),
    (5732, 16000, 8),
    (5651, 6200, 12),
    (8398, 2000, 4),
    (5999, 2900, 10),
    (5947, 4800, 5),
    (7994, 600, 4),
)
_SUBSCRIPTION: Final = (4814, 4899, 5968)
_BY_TELEPHONE: Final = (7011, 4511, 8398)
_RESOLD: Final = (5732, 5734, 5947, 5399, 5651)
_RESIDENT_SHARE: Final = 0.88


@dataclass(frozen=True)
class Merchants:
    """Every merchant of the world; a merchant's number is its position in each array, shape ``(merchants,)``.

    Attributes
    ----------
    category
        Category code (MCC).
    city, country
        Where it trades.
    online, subscription, by_telephone, resold
        Sells remotely; bills monthly; also takes orders by telephone; sells goods that thieves resell.
    price
        Usual amount of one purchase, minor units.
    weight
        Share of trade.
    collusive
        Opens for fraud only after the world's novelty date; trades a little like any other.
    """

    category: IntArray
    city: IntArray
    country: IntArray
    online: BoolArray
    subscription: BoolArray
    by_telephone: BoolArray
    resold: BoolArray
    price: FloatArray
    weight: FloatArray
    collusive: IntArray

    @property
    def count(self) -> int:
        """Number of merchants."""
        return len(self.category)


@dataclass(frozen=True)
class Market:
    """How buyers find merchants: by city at the counter, by country or anywhere online."""

    at_counter: Picker
    online_by_country: Picker
    online: Picker
    subscriptions: IntArray
    resold_online: IntArray


def draw_merchants(config: WorldConfig, cities: Cities) -> Merchants:
    """Draw the merchants; each city has at least one at the counter and each country one online."""
    rng = stream(config.seed, "merchants")
    count = config.merchants
    must_counter, must_online = cities.count, len(cities.countries)
    online = rng.random(count) < 0.36
    online[:must_counter] = False
    online[must_counter : must_counter + must_online] = True
    residents = cities.residents / cities.residents.sum()
    visitors = cities.visitors / cities.visitors.sum()
    city = weighted(rng, _RESIDENT_SHARE * residents + (1 - _RESIDENT_SHARE) * visitors, count)
    city[:must_counter] = np.arange(cities.count)
    first_city = np.array([int(np.argmax(cities.country == number)) for number in range(must_online)], np.int64)
    city[must_counter : must_counter + must_online] = first_city
    category, usual = _categories(rng, online)
    order = rng.permutation(count)
    online, city, category, usual = online[order], city[order], category[order], usual[order]
    weight: FloatArray = np.power(rng.permutation(count) + 12.0, -0.95)
    weight *= np.where(np.isin(category, (5732, 7011, 4511)), 0.35, 1.0)
    collusive = rng.permutation(np.flatnonzero(weight < np.quantile(weight, 0.5)))[: max(2, count // 400)]
    weight[collusive] = np.quantile(weight, 0.05)
    return Merchants(
        category=category,
        city=city,
        country=cities.country[city],
        online=online,
        subscription=online & np.isin(category, _SUBSCRIPTION),
        by_telephone=np.isin(category, _BY_TELEPHONE),
        resold=np.isin(category, _RESOLD),
        price=usual * lognormal(rng, 1.0, 0.35, count),
        weight=weight,
        collusive=collusive.astype(np.int64),
    )


def _categories(rng: np.random.Generator, online: BoolArray) -> tuple[IntArray, FloatArray]:
    """Return category and usual price of each merchant; subscription sellers exist from the first online merchants."""
    category = np.zeros(len(online), np.int64)
    price = np.zeros(len(online), np.float64)
    for rows, table in ((np.flatnonzero(~online), _AT_COUNTER), (np.flatnonzero(online), _ONLINE)):
        kinds = np.array(table, np.float64)
        kind = weighted(rng, kinds[:, 2], len(rows))
        kind[: len(kinds)] = np.arange(len(kinds))
        category[rows] = kinds[kind, 0].astype(np.int64)
        price[rows] = kinds[kind, 1]
    return category, price


def open_market(merchants: Merchants, cities: Cities) -> Market:
    """Index the merchants for buyers."""
    numbers = np.arange(merchants.count, dtype=np.int64)
    counter, online = numbers[~merchants.online], numbers[merchants.online]
    nowhere = np.zeros(len(online), np.int64)
    return Market(
        at_counter=Picker(counter, merchants.city[counter], merchants.weight[counter], group_count=cities.count),
        online_by_country=Picker(
            online, merchants.country[online], merchants.weight[online], group_count=len(cities.countries)
        ),
        online=Picker(online, nowhere, merchants.weight[online], group_count=1),
        subscriptions=numbers[merchants.subscription],
        resold_online=numbers[merchants.online & merchants.resold],
    )
