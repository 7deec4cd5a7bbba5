"""What fraudsters have in common: victims, moments, devices they share and addresses they hide behind."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from simulation.randomness import DAY_MS, HOUR_MS, FloatArray, IntArray, weighted
from simulation.rows import APP, FRAUD_TYPES, MOTO, NOTHING, ONLINE, POS, Rows
from simulation.scene import CARRIER_ADDRESSES, Scene

_APP_SHARE: Final = 0.3
_WITHHELD_SHARE: Final = 0.1
_TELEPHONE_SHARE: Final = 0.15


def moments(scene: Scene, rng: np.random.Generator, size: int, *, odd_share: float, since: float = 0.0) -> IntArray:
    """Draw when fraud starts: by the traffic of the world, or with probability ``odd_share`` at any hour alike.

    ``since`` leaves out the first part of the days.
    """
    config = scene.config
    hours = np.minimum(scene.hours, 3.0)
    first = min(int(config.days * since), config.days - 1)
    usual = weighted(rng, hours[first:].ravel(), size)
    flat = rng.integers(0, hours[first:].size, size)
    hour = first * 24 + np.where(rng.random(size) < odd_share, flat, usual)
    return config.start_ms + hour * HOUR_MS + rng.integers(0, HOUR_MS, size)


def victims(scene: Scene, rng: np.random.Generator, time: IntArray) -> IntArray:
    """Draw a card whose number was stolen for each moment, any card alike among those in use (but for a stray few)."""
    card = rng.integers(0, scene.cards.count, len(time))
    for _ in range(4):
        unused = np.flatnonzero(~scene.cards.in_use(card, time))
        card[unused] = rng.integers(0, scene.cards.count, len(unused))
    return card


def ring_devices(scene: Scene, rng: np.random.Generator, size: int, *, cards_each: float) -> IntArray:
    """Return one device for each of ``size`` sprees; about ``cards_each`` sprees share one."""
    supply = scene.devices.new(max(1, round(size / cards_each)))
    return rng.choice(supply, size)


def hidden_ips(scene: Scene, rng: np.random.Generator, card: IntArray) -> IntArray:
    """Return an address for each spree: a proxy, a fresh one, or a carrier's of the victim's country."""
    kind = rng.random(len(card))
    country = scene.cities.country[scene.cards.city[card]]
    carrier = scene.carrier_ips[country, rng.integers(0, CARRIER_ADDRESSES, len(card))]
    fresh = scene.ips.new(len(card))
    return np.where(kind < 0.4, rng.choice(scene.proxy_ips, len(card)), np.where(kind < 0.7, fresh, carrier))


def online_shops(scene: Scene, rng: np.random.Generator, size: int, *, resold: float) -> IntArray:
    """Draw online merchants; with probability ``resold`` one whose goods sell on, else any country's alike."""
    sellers = scene.market.resold_online
    good = sellers[weighted(rng, scene.merchants.weight[sellers], size)]
    some = scene.market.online_by_country.pick(rng, rng.integers(0, len(scene.cities.countries), size))
    return np.where(rng.random(size) < resold, good, some)


@dataclass(frozen=True)
class Attempts:
    """Payments a thief tries, in columns of equal length; device and address are those of the thief."""

    time: IntArray
    card: IntArray
    merchant: IntArray
    amount: IntArray
    device: IntArray
    ip: IntArray


def fraud(scene: Scene, rng: np.random.Generator, kind: str, attempts: Attempts, *, declined: float) -> Rows:
    """Return fraudulent rows of ``kind``, those within the world and the cards' life.

    The channel follows the merchant; at the counter and by telephone device and address are dropped, remotely a tenth
    of the devices is withheld. ``declined`` is the share of attempts the issuer declines.
    """
    size = len(attempts.time)
    online = scene.merchants.online[attempts.merchant]
    telephone = scene.merchants.by_telephone[attempts.merchant] & (rng.random(size) < _TELEPHONE_SHARE)
    remotely = np.where(rng.random(size) < _APP_SHARE, APP, ONLINE)
    channel = np.where(telephone, MOTO, np.where(online, remotely, POS))
    remote = online & ~telephone
    seen = remote & (rng.random(size) >= _WITHHELD_SHARE)
    rows = Rows(
        time=attempts.time,
        card=attempts.card,
        merchant=attempts.merchant,
        device=np.where(seen, attempts.device, NOTHING),
        ip=np.where(remote, attempts.ip, NOTHING),
        amount=attempts.amount,
        channel=channel.astype(np.int8),
        authorised=rng.random(size) >= declined,
        fraud=np.full(size, FRAUD_TYPES.index(kind), np.int8),
    )
    return rows.take(scene.cards.in_use(rows.card, rows.time) & (rows.time < scene.config.end_ms))


def blocked_above(scene: Scene, time: IntArray) -> FloatArray:
    """Return the amount (minor units) above which fraudsters believe to be blocked: it falls by 15 % every ten days.

    A schedule, the same in every world: what they have learned is given, and no answer to their attempts moves it.
    """
    decades = (time - scene.config.start_ms) // (10 * DAY_MS)
    limit: FloatArray = np.maximum(60_000 * 0.85**decades, 12_000.0)
    return limit
