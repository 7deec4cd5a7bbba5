"""Honest traffic: shopping visits, monthly subscriptions and promotions.

Promotions and shopping visits are bursts on purpose: many payments at one merchant, or from one card, within minutes.
"""

import numpy as np
import numpy.typing as npt

from simulation.amounts import price_points, purchases
from simulation.authorisation import answers, with_retries
from simulation.cards import COUNTER_FAVOURITES, ONLINE_FAVOURITES
from simulation.devices import identify
from simulation.randomness import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    BoolArray,
    FloatArray,
    IntArray,
    expand,
    lognormal,
    stream,
    weighted,
)
from simulation.rows import APP, LEGITIMATE, MOTO, NOTHING, ONLINE, POS, Rows, concatenate
from simulation.scene import Scene
from simulation.seasons import calendar, online_lean

PROMOTION_SHARE = 0.02
_RETRY_SHARE = 0.016
_VISIT_ENDS = 0.8
_LARGE_SHARE = 0.01
_TRIAL_SHARE = 0.01


def honest_rows(scene: Scene, *, fraud_rows: int) -> Rows:
    """Return all legitimate rows; with ``fraud_rows`` of fraud the world has about the rows it aims at."""
    subscriptions = _subscriptions(scene)
    promotions = _promotions(scene)
    wanted = scene.config.rows * (1 - _RETRY_SHARE) - fraud_rows - len(subscriptions) - len(promotions)
    return concatenate([subscriptions, promotions, _visits(scene, max(wanted, 1.0))])


def _visits(scene: Scene, wanted: float) -> Rows:
    """Draw shopping visits: one or a few payments of one card, minutes apart."""
    rng = stream(scene.config.seed, "visits")
    config, cards = scene.config, scene.cards
    used = (cards.last_ms - np.minimum(cards.first_ms, cards.last_ms)) / (config.days * DAY_MS)
    active = float((cards.rate * used).sum() / cards.rate.sum())
    hourly = scene.hours.ravel() * (wanted * _VISIT_ENDS / active / scene.hours.size)
    start_hour = np.repeat(np.arange(hourly.size, dtype=np.int64), rng.poisson(hourly))
    visits = len(start_hour)
    start = config.start_ms + start_hour * HOUR_MS + rng.integers(0, HOUR_MS, visits)
    holder = weighted(rng, cards.rate, visits)
    remote = rng.random(visits) < cards.online_share[holder] * online_lean(start_hour % 24)
    visit, _, time = expand(rng, start, rng.geometric(_VISIT_ENDS, visits), gap_ms=9 * MINUTE_MS, sigma=1.1)
    inside = cards.in_use(holder[visit], time) & (time < config.end_ms)
    visit, time = visit[inside], time[inside]
    card = holder[visit]
    merchant = _merchants(scene, rng, card, time, remote[visit])
    return _finish(scene, rng, card=card, time=time, merchant=merchant)


def _merchants(scene: Scene, rng: np.random.Generator, card: IntArray, time: IntArray, remote: BoolArray) -> IntArray:
    """Choose where each payment goes: mostly a favourite, else by the size of merchants within reach."""
    merchant = np.empty(len(card), np.int64)
    at = np.flatnonzero(~remote)
    away, abroad = scene.cards.trips.city_at(card[at], time[at])
    favourite = ~away & (rng.random(len(at)) < 0.7)
    known, other = at[favourite], np.flatnonzero(~favourite)
    merchant[known] = scene.cards.counter_favourites[card[known], _slots(rng, len(known), COUNTER_FAVOURITES)]
    home = scene.cards.city[card[at[other]]]
    stray = rng.random(len(other)) < 0.06
    nearby = np.where(stray, weighted(rng, scene.cities.residents, len(other)), home)
    merchant[at[other]] = scene.market.at_counter.pick(rng, np.where(away[other], abroad[other], nearby))
    far = np.flatnonzero(remote)
    loyal = rng.random(len(far)) < 0.62
    known, other = far[loyal], far[~loyal]
    merchant[known] = scene.cards.online_favourites[card[known], _slots(rng, len(known), ONLINE_FAVOURITES)]
    merchant[other] = scene.market.online.pick(rng, np.zeros(len(other), np.int64))
    return merchant


def _slots(rng: np.random.Generator, size: int, slots: int) -> IntArray:
    """Draw favourites, the first oftenest."""
    return (slots * rng.random(size) ** 1.9).astype(np.int64)


def _finish(
    scene: Scene,
    rng: np.random.Generator,
    *,
    card: IntArray,
    time: IntArray,
    merchant: IntArray,
    amount: IntArray | None = None,
) -> Rows:
    """Give each payment its amount, channel, device, address and answer, and let declined customers try again."""
    size = len(card)
    channel = _channels(scene, rng, card, merchant)
    if amount is None:
        large = rng.random(size) < _LARGE_SHARE
        factor = np.where(large, lognormal(rng, 3.5, 0.5, size), _payday_purse(scene, card, time))
        amount = purchases(scene, rng, card, merchant, factor)
        trial = np.flatnonzero((rng.random(size) < _TRIAL_SHARE) & (channel != POS))
        amount[trial] = price_points(rng, rng.uniform(50, 250, len(trial)))
    device, ip = identify(scene, rng, card, time, channel)
    return with_retries(
        rng,
        Rows(
            time=time,
            card=card,
            merchant=merchant,
            device=device,
            ip=ip,
            amount=amount,
            channel=channel,
            authorised=answers(scene, rng, card, time, amount),
            fraud=np.full(size, LEGITIMATE, np.int8),
        ),
    )


def _payday_purse(scene: Scene, card: IntArray, time: IntArray) -> FloatArray:
    """Return how freely each card spends: a quarter more just after payday, a little less long after."""
    day = np.clip((time - scene.config.start_ms) // DAY_MS, 0, scene.config.days - 1)
    purse: FloatArray = 0.93 + 0.32 * np.exp(-scene.since_payday[scene.cards.payday[card], day] / 3.0)
    return purse


def _channels(scene: Scene, rng: np.random.Generator, card: IntArray, merchant: IntArray) -> npt.NDArray[np.int8]:
    """Return how each payment is made, given where."""
    remote = scene.merchants.online[merchant]
    app = rng.random(len(card)) < scene.cards.app_share[card]
    channel = np.where(remote, np.where(app, APP, ONLINE), POS)
    telephone = scene.merchants.by_telephone[merchant] & (rng.random(len(card)) < 0.12)
    return np.where(telephone, MOTO, channel).astype(np.int8)


def _subscriptions(scene: Scene) -> Rows:
    """Draw monthly bills: same card, merchant, amount and day of the month, mostly at night, without a device."""
    rng = stream(scene.config.seed, "subscriptions")
    config, cards = scene.config, scene.cards
    owner = np.repeat(np.arange(cards.count, dtype=np.int64), rng.binomial(3, 0.22, cards.count))
    sellers = scene.market.subscriptions
    seller = sellers[weighted(rng, scene.merchants.weight[sellers], len(owner))]
    bill = price_points(rng, scene.merchants.price[seller] * lognormal(rng, 1.0, 0.3, len(owner)))
    due = rng.integers(1, 29, len(owner))
    months = [np.flatnonzero(due == day.day) for day in calendar(config)]
    which = np.concatenate(months)
    day = np.repeat(np.arange(config.days, dtype=np.int64), [len(month) for month in months])
    hour = np.where(rng.random(len(which)) < 0.8, rng.integers(1, 7, len(which)), rng.integers(7, 22, len(which)))
    time = config.start_ms + day * DAY_MS + hour * HOUR_MS + rng.integers(0, HOUR_MS, len(which))
    alive = cards.in_use(owner[which], time)
    which, time = which[alive], time[alive]
    nothing = np.full(len(which), NOTHING, np.int64)
    rows = Rows(
        time=time,
        card=owner[which],
        merchant=seller[which],
        device=nothing,
        ip=nothing,
        amount=bill[which],
        channel=np.full(len(which), ONLINE, np.int8),
        authorised=answers(scene, rng, owner[which], time, bill[which]),
        fraud=np.full(len(which), LEGITIMATE, np.int8),
    )
    return with_retries(rng, rows)


def _promotions(scene: Scene) -> Rows:
    """Draw promotions: a few hours in which many cards buy the same cheap thing at one online merchant."""
    rng = stream(scene.config.seed, "promotions")
    config, merchants = scene.config, scene.merchants
    wanted = config.rows * PROMOTION_SHARE
    usual = max(25.0, config.transactions_per_day / 120)
    number = max(1, round(wanted / usual))
    size = np.maximum(5, lognormal(rng, usual * 0.8, 0.6, number)).astype(np.int64)
    merchant = weighted(rng, np.sqrt(merchants.weight) * merchants.online, number)
    hour = weighted(rng, scene.hours.ravel(), number)
    start = config.start_ms + hour * HOUR_MS + rng.integers(0, HOUR_MS, number)
    length = lognormal(rng, 45 * MINUTE_MS, 0.9, number)
    price = price_points(rng, merchants.price[merchant] * rng.uniform(0.15, 0.8, number))
    sale = np.repeat(np.arange(number, dtype=np.int64), size)
    time = start[sale] + (rng.exponential(1.0, len(sale)) * length[sale]).astype(np.int64)
    card = weighted(rng, scene.cards.rate * (0.2 + scene.cards.online_share), len(sale))
    keep = scene.cards.in_use(card, time) & (time < config.end_ms)
    sale, time, card = sale[keep], time[keep], card[keep]
    pieces = np.where(rng.random(len(sale)) < 0.75, 1, rng.integers(2, 5, len(sale)))
    return _finish(scene, rng, card=card, time=time, merchant=merchant[sale], amount=price[sale] * pieces)
