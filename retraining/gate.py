"""The gate: what a challenger must show before it may replace the champion; each check with its evidence.

Both models are judged on the same held-out rows, newer than anything either was fitted to. Three kinds of check:

- *no worse*: the lower bound of (challenger / champion) must stay above a margin, so a week that is too noisy to tell
  promotes nobody, and a challenger identical to the champion passes;
- *not surely worse*: refused when even the bound in its favour says worse, for what a single week measures too coarsely
  to demand more: false positives at equal catch, the catch in each band of amounts, of each type of fraud;
- *absolute*: enough frauds, calibrated, a bundle that reproduces its recorded rows and stays within its size.

Only one check asks the clock, for processor time with a bound far above what is usual.
"""

import numpy as np

from retraining.bounds import LEAST_DAYS
from retraining.fraud_types import catches_every_type
from retraining.held_out import HeldOut, PackedModel
from retraining.limits import LIMITS, GateLimits
from retraining.operating_point import catches_at_its_thresholds, keeps_its_budgets
from retraining.paired import Pair
from retraining.parts import amount_thirds
from retraining.verdict import Check, Verdict, not_asked
from training.ranking import DAY_MS


def judge(rows: HeldOut, packed: PackedModel, *, limits: GateLimits = LIMITS, seed: int = 0) -> Verdict:
    """Return the verdict on a challenger.

    Parameters
    ----------
    rows
        Held out of both models' fitting.
    packed
        What is known of its bundle.
    limits
        How much worse is too much.
    seed
        Of the resamples of days: same rows and seed, same verdict.
    """
    frauds, days = int(rows.is_fraud.sum()), len(np.unique(rows.event_time_ms // DAY_MS))
    checks = [
        _enough(rows, days, limits),
        _reproduces(packed),
        _fits(packed, limits),
        *([] if packed.row_us is None else [_in_time(packed.row_us, limits)]),
    ]
    if 0 < frauds < len(rows.is_fraud) and days >= LEAST_DAYS:
        checks += _paired(rows, limits, seed)
    return Verdict(tuple(checks))


def _paired(rows: HeldOut, limits: GateLimits, seed: int) -> list[Check]:
    pair = Pair(rows, limits, seed)
    checks = [
        pair.ranks_no_worse(),
        pair.no_more_false_positives(),
        pair.calibrated(),
        pair.calibration_slope(),
        pair.scores_stable(),
    ]
    if rows.thresholds is None:
        checks.append(not_asked("catches_at_its_thresholds", "no thresholds were given"))
    else:
        checks += [
            catches_at_its_thresholds(rows, rows.thresholds, limits, seed),
            keeps_its_budgets(rows, rows.thresholds, limits, seed),
        ]
    if rows.amount_minor is not None:
        thirds = amount_thirds(rows.amount_minor, rows.is_fraud)
        checks.append(pair.catches_every_part("catches_every_amount", thirds, 1))
    if rows.parts:
        checks.append(pair.catches_every_part("catches_every_segment", rows.parts, limits.part_frauds))
    checks.append(catches_every_type(rows, limits))
    return checks


def _enough(rows: HeldOut, days: int, limits: GateLimits) -> Check:
    frauds = int(rows.is_fraud.sum())
    said = (
        f"{frauds} mature frauds in {len(rows.is_fraud)} held-out rows of {days} days; {limits.least_frauds} "
        f"frauds of {LEAST_DAYS} days are needed"
    )
    if rows.weights is not None:
        said += (
            f"; by their weights they are worth {rows.effective_frauds:.0f} frauds in {rows.effective_rows:.0f} rows"
        )
    if rows.left_out:
        said += f"; {rows.left_out} rows of cards known as compromised are left out"
    enough = limits.least_frauds <= rows.effective_frauds + 1e-9 and frauds < len(rows.is_fraud) and days >= LEAST_DAYS
    return Check("enough_mature_frauds", enough, said)


def _reproduces(packed: PackedModel) -> Check:
    said = packed.fault or "the packed model gives its recorded margins bit for bit"
    return Check("bundle_reproduces", packed.fault is None, said)


def _fits(packed: PackedModel, limits: GateLimits) -> Check:
    return Check(
        "bundle_fits",
        packed.total_bytes <= limits.bundle_bytes and packed.trees <= limits.trees,
        f"{packed.total_bytes / 2**20:.1f} MB and {packed.trees} trees, {limits.bundle_bytes / 2**20:.0f} MB and "
        f"{limits.trees} allowed",
    )


def _in_time(row_us: float, limits: GateLimits) -> Check:
    said = f"{row_us:.1f} us of processor time a row in the scorer's runtime, {limits.row_us:g} us allowed"
    return Check("scores_in_time", row_us <= limits.row_us, said)
