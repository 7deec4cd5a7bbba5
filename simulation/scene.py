"""Everything rows are drawn from, put together once: cities, merchants, cards, seasons and the supply of devices."""

from dataclasses import dataclass

import numpy as np

from simulation.cards import Cards, draw_cards
from simulation.config import WorldConfig
from simulation.geography import Cities, known_cities
from simulation.merchants import Market, Merchants, draw_merchants, open_market
from simulation.randomness import FloatArray, IntArray, Tokens, stream
from simulation.seasons import days_since_payday, hour_weights

CARRIER_ADDRESSES = 24


@dataclass(frozen=True)
class Scene:
    """The ingredients of one world.

    Attributes
    ----------
    hours
        Relative traffic of each hour, shape ``(days, 24)``.
    since_payday
        Days since the last payday, shape ``(paydays, days)``.
    devices, ips
        Supplies of new numbers; the only parts that change while rows are drawn.
    agent_devices
        Devices on which agents enter the cards of many customers, as at a travel agency.
    carrier_ips
        Addresses behind which mobile carriers hide many customers, shape ``(countries, CARRIER_ADDRESSES)``.
    proxy_ips
        Addresses of proxies, used by the private and the criminal alike.
    """

    config: WorldConfig
    cities: Cities
    merchants: Merchants
    market: Market
    cards: Cards
    hours: FloatArray
    since_payday: FloatArray
    devices: Tokens
    ips: Tokens
    agent_devices: IntArray
    carrier_ips: IntArray
    proxy_ips: IntArray


def set_scene(config: WorldConfig) -> Scene:
    """Draw the ingredients of the world that ``config`` describes."""
    rng = stream(config.seed, "scene")
    cities = known_cities()
    merchants = draw_merchants(config, cities)
    market = open_market(merchants, cities)
    devices, ips = Tokens(), Tokens()
    carrier = ips.new(len(cities.countries) * CARRIER_ADDRESSES).reshape(-1, CARRIER_ADDRESSES)
    return Scene(
        config=config,
        cities=cities,
        merchants=merchants,
        market=market,
        cards=draw_cards(config, cities, market, devices, ips),
        hours=hour_weights(config),
        since_payday=days_since_payday(config),
        devices=devices,
        ips=ips,
        agent_devices=devices.new(max(4, config.cards // 1500)),
        carrier_ips=carrier,
        proxy_ips=rng.permutation(ips.new(max(40, config.cards // 60))).astype(np.int64),
    )
