"""Labels as they reach us: late, some never, some wrong.

A fraud becomes known by a chargeback, the holder's report or an analyst's verdict, days to weeks later. Honest payments
mostly have no label; some are cleared by an analyst, some are disputed by holders who did make them.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from simulation.randomness import DAY_MS, HOUR_MS, BoolArray, FloatArray, IntArray, lognormal, weighted
from simulation.rows import FRAUD_TYPES, POS, Rows

SOURCES: Final = ("chargeback", "report", "verdict")
_CHARGEBACK, _REPORT, _VERDICT = range(3)

# Median days from payment to statement, by fraud type.
_MEDIAN_DAYS: Final = {
    "card_testing": 6.0,
    "cash_out": 8.0,
    "merchant_compromise": 12.0,
    "stolen_number": 11.0,
    "account_takeover": 7.0,
    "mule_merchant": 18.0,
    "limit_aware": 13.0,
}
_DAYS_SIGMA: Final = 0.95
_NEVER_SHARE: Final = 0.03
_MISJUDGED_SHARE: Final = 0.035
_CLEARED_PER_FRAUD: Final = 0.25
_DISPUTED_PER_FRAUD: Final = 0.065


@dataclass(frozen=True)
class Statements:
    """Labels by row of the world, in order of arrival.

    Attributes
    ----------
    row
        Position of the transaction.
    is_fraud
        What the source says.
    source
        Position in ``SOURCES``.
    stated, arrived
        Epoch milliseconds: when the source said so, when it reached us.
    """

    row: IntArray
    is_fraud: BoolArray
    source: IntArray
    stated: IntArray
    arrived: IntArray


def draw_labels(rng: np.random.Generator, rows: Rows) -> Statements:
    """Return the statements about ``rows``, at most one for each; some arrive after the world's last day."""
    frauds = np.flatnonzero(rows.fraud >= 0)
    parts = [_about_frauds(rng, rows, frauds)]
    honest = np.flatnonzero(rows.fraud < 0)
    cleared = round(len(frauds) * _CLEARED_PER_FRAUD)
    disputed = round(len(frauds) * _DISPUTED_PER_FRAUD)
    if len(honest) >= cleared + disputed > 0:
        parts.append(_about_honest(rng, rows, honest, cleared, disputed))
    row, is_fraud, source, stated = (np.concatenate(column) for column in zip(*parts, strict=True))
    arrived = stated + _transit(rng, source)
    order = np.lexsort((row, arrived))
    return Statements(row[order], is_fraud[order], source[order], stated[order], arrived[order])


Columns = tuple[IntArray, BoolArray, IntArray, IntArray]


def _about_frauds(rng: np.random.Generator, rows: Rows, frauds: IntArray) -> Columns:
    """Return what is said about frauds: one holder's frauds become known, or stay unknown, together."""
    kind = rows.fraud[frauds].astype(np.int64)
    _, spree = np.unique(rows.card[frauds] * len(FRAUD_TYPES) + kind, return_inverse=True)
    sprees = int(spree.max(initial=-1)) + 1
    late = np.exp(rng.normal(0.0, _DAYS_SIGMA, sprees))
    known = rng.random(sprees) >= _NEVER_SHARE
    median = np.array([_MEDIAN_DAYS[name] for name in FRAUD_TYPES])
    days = median[kind] * late[spree] * np.exp(rng.normal(0.0, 0.08, len(frauds)))
    source = _sources(rng, rows, frauds)
    misjudged = rng.random(len(frauds)) < _MISJUDGED_SHARE
    source = np.where(misjudged, _VERDICT, source)
    days = np.where(misjudged, rng.uniform(0.05, 5.0, len(frauds)), days)
    stated = rows.time[frauds] + HOUR_MS + (days * DAY_MS).astype(np.int64)
    return frauds[known[spree]], ~misjudged[known[spree]], source[known[spree]], stated[known[spree]]


def _sources(rng: np.random.Generator, rows: Rows, frauds: IntArray) -> IntArray:
    """Draw who says so: a chargeback needs an authorised payment worth the trouble; what was declined is found out."""
    disputable = rows.authorised[frauds] & (rows.amount[frauds] > 500)
    kind = rng.random(len(frauds))
    lost = np.where(kind < 0.58, _CHARGEBACK, np.where(kind < 0.9, _REPORT, _VERDICT))
    tried = np.where(kind < 0.45, _REPORT, _VERDICT)
    return np.where(disputable, lost, tried)


def _about_honest(rng: np.random.Generator, rows: Rows, honest: IntArray, cleared: int, disputed: int) -> Columns:
    """Return verdicts that clear striking honest payments, and false claims against others."""
    pool = honest[rng.integers(0, len(honest), min(len(honest), 20 * (cleared + disputed)))]
    pool = np.unique(pool[rows.authorised[pool]])
    striking = np.sqrt(rows.amount[pool]) * np.where(rows.channel[pool] == POS, 0.5, 1.5)
    chosen = pool[np.unique(weighted(rng, striking, cleared + disputed))]
    false_claim = np.zeros(len(chosen), np.bool_)
    false_claim[rng.permutation(len(chosen))[:disputed]] = True
    size = len(chosen)
    days: FloatArray = np.where(false_claim, lognormal(rng, 20.0, 0.6, size), rng.uniform(0.02, 3.0, size))
    claim = np.where(rng.random(size) < 0.8, _CHARGEBACK, _REPORT)
    stated = rows.time[chosen] + HOUR_MS + (days * DAY_MS).astype(np.int64)
    return chosen, false_claim, np.where(false_claim, claim, _VERDICT).astype(np.int64), stated


def _transit(rng: np.random.Generator, source: IntArray) -> IntArray:
    """Draw the way of a statement to us: minutes for a verdict, hours for a report, a day or so for a chargeback."""
    medians: npt.NDArray[np.float64] = np.array([1.0 * DAY_MS, 3.0 * HOUR_MS, 300_000.0])
    return (medians[source] * lognormal(rng, 1.0, 0.5, len(source))).astype(np.int64)
