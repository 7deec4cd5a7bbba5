"""Which device and address a legitimate remote payment comes from.

Mostly the holder's own; often enough a new one, a shared one or a proxy, so that novelty alone proves nothing.
"""

import numpy as np
import numpy.typing as npt

from simulation.randomness import IntArray
from simulation.rows import APP, NOTHING, ONLINE
from simulation.scene import CARRIER_ADDRESSES, Scene


def identify(
    scene: Scene, rng: np.random.Generator, card: IntArray, time: IntArray, channel: npt.NDArray[np.int8]
) -> tuple[IntArray, IntArray]:
    """Return device and address of each legitimate payment; ``NOTHING`` at the counter and by telephone."""
    device = np.full(len(card), NOTHING, np.int64)
    ip = device.copy()
    remote = np.flatnonzero((channel == ONLINE) | (channel == APP))
    device[remote] = _holder_devices(scene, rng, card[remote], time[remote])
    ip[remote] = _holder_ips(scene, rng, card[remote], channel[remote])
    return device, ip


def own_devices(scene: Scene, rng: np.random.Generator, card: IntArray, time: IntArray) -> IntArray:
    """Return a usual device of each card at its time."""
    cards = scene.cards
    usual = np.where(time < cards.renewed_ms[card], cards.device[card], cards.next_device[card])
    return np.where(rng.random(len(card)) < 0.18, cards.second_device[card], usual)


def _holder_devices(scene: Scene, rng: np.random.Generator, card: IntArray, time: IntArray) -> IntArray:
    device = own_devices(scene, rng, card, time)
    odd = rng.random(len(card))
    fresh = np.flatnonzero(odd < 0.06)
    device[fresh] = scene.devices.new(len(fresh))
    agent = np.flatnonzero((odd >= 0.06) & (odd < 0.07))
    device[agent] = rng.choice(scene.agent_devices, len(agent))
    device[(odd >= 0.07) & (odd < 0.13)] = NOTHING
    return device


def _holder_ips(scene: Scene, rng: np.random.Generator, card: IntArray, channel: npt.NDArray[np.int8]) -> IntArray:
    ip = scene.cards.home_ip[card]
    mobile = np.flatnonzero(rng.random(len(card)) < np.where(channel == APP, 0.5, 0.15))
    country = scene.cities.country[scene.cards.city[card[mobile]]]
    ip[mobile] = scene.carrier_ips[country, rng.integers(0, CARRIER_ADDRESSES, len(mobile))]
    odd = rng.random(len(card))
    proxied = np.flatnonzero(odd < 0.025)
    ip[proxied] = rng.choice(scene.proxy_ips, len(proxied))
    guest = np.flatnonzero((odd >= 0.025) & (odd < 0.07))
    ip[guest] = scene.ips.new(len(guest))
    return ip
