"""Where people live and travel: cities with their place, country and share of residents."""

from dataclasses import dataclass

import numpy as np

from simulation.randomness import FloatArray, IntArray

# Country, latitude, longitude, residents (share of cards), visitors (share of trips).
_CITIES: tuple[tuple[str, float, float, float, float], ...] = (
    ("DE", 52.52, 13.40, 9.0, 6.0),
    ("DE", 53.55, 10.00, 5.0, 3.0),
    ("DE", 48.14, 11.58, 5.0, 4.0),
    ("DE", 50.94, 6.96, 4.0, 2.0),
    ("DE", 50.11, 8.68, 4.0, 3.0),
    ("FR", 48.86, 2.35, 9.0, 9.0),
    ("FR", 45.76, 4.84, 3.0, 2.0),
    ("FR", 43.30, 5.37, 3.0, 3.0),
    ("FR", 44.84, -0.58, 2.0, 1.5),
    ("IT", 41.90, 12.50, 5.0, 7.0),
    ("IT", 45.46, 9.19, 4.0, 4.0),
    ("IT", 40.85, 14.27, 3.0, 2.0),
    ("ES", 40.42, -3.70, 5.0, 4.0),
    ("ES", 41.39, 2.17, 4.0, 7.0),
    ("ES", 37.39, -5.98, 2.0, 2.0),
    ("NL", 52.37, 4.90, 4.0, 4.0),
    ("NL", 51.92, 4.48, 2.5, 1.0),
    ("AT", 48.21, 16.37, 3.5, 3.0),
    ("AT", 47.80, 13.04, 1.0, 2.0),
    ("BE", 50.85, 4.35, 3.0, 2.0),
    ("PT", 38.72, -9.14, 2.5, 4.0),
    ("PT", 41.15, -8.61, 1.5, 2.0),
    ("IE", 53.35, -6.26, 2.0, 2.0),
    ("FI", 60.17, 24.94, 1.5, 1.0),
    ("GR", 37.98, 23.73, 1.5, 4.0),
    ("GB", 51.51, -0.13, 0.0, 7.0),
    ("CH", 47.38, 8.54, 0.0, 3.0),
    ("CZ", 50.08, 14.44, 0.0, 3.0),
    ("PL", 52.23, 21.01, 0.0, 2.0),
    ("TR", 41.01, 28.98, 0.0, 4.0),
    ("US", 40.71, -74.01, 0.0, 4.0),
    ("US", 34.05, -118.24, 0.0, 1.5),
    ("TH", 13.76, 100.50, 0.0, 2.0),
    ("AE", 25.20, 55.27, 0.0, 2.0),
    ("RO", 44.43, 26.10, 0.0, 0.8),
    ("BR", -23.55, -46.63, 0.0, 0.5),
)


@dataclass(frozen=True)
class Cities:
    """Cities and the countries they are in.

    Attributes
    ----------
    countries
        ISO 3166 alpha-2 codes; a country's number is its position.
    country
        Country number of each city, shape ``(cities,)``.
    latitude, longitude
        Degrees, shape ``(cities,)``.
    residents, visitors
        Relative weights, shape ``(cities,)``; cities without residents are only travelled to.
    """

    countries: tuple[str, ...]
    country: IntArray
    latitude: FloatArray
    longitude: FloatArray
    residents: FloatArray
    visitors: FloatArray

    @property
    def count(self) -> int:
        """Number of cities."""
        return len(self.country)


def known_cities() -> Cities:
    """Return the cities of the world; the same for every seed."""
    codes = tuple(dict.fromkeys(city[0] for city in _CITIES))
    numbers = np.array([city[1:] for city in _CITIES], np.float64)
    return Cities(
        countries=codes,
        country=np.array([codes.index(city[0]) for city in _CITIES], np.int64),
        latitude=numbers[:, 0].copy(),
        longitude=numbers[:, 1].copy(),
        residents=numbers[:, 2].copy(),
        visitors=numbers[:, 3].copy(),
    )
