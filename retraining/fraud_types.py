"""Whether a challenger still catches every type of fraud: a total that is as good may hide a type it is blind to.

A week holds ten or twenty frauds of a type, too few for a bound over resampled days. What is counted instead are cards:
those whose frauds of the type the champion caught more of, and those the challenger did. If both caught the type alike
the two would be as likely, so the sign test says how probable so many losses are by chance.
"""

import math

import numpy as np
import numpy.typing as npt

from retraining.held_out import HeldOut
from retraining.limits import GateLimits
from retraining.verdict import Check, not_asked

NAME = "catches_every_type"
BoolArray = npt.NDArray[np.bool_]


def catches_every_type(rows: HeldOut, limits: GateLimits) -> Check:
    """Return the check of each type's catch, both models at their own threshold for the same catch of all frauds."""
    if rows.fraud_type is None:
        return not_asked(NAME, "labels carry no type")
    types = [str(kind) for kind in np.unique(rows.fraud_type[rows.is_fraud].astype(str)) if kind]
    members = {kind: rows.is_fraud & (rows.fraud_type == kind) for kind in types}
    counted = {kind: inside for kind, inside in members.items() if int(inside.sum()) >= limits.type_frauds}
    if not counted:
        return not_asked(NAME, f"none of {len(types)} types has {limits.type_frauds} frauds")
    champion, challenger = (_caught(rows, scores, limits.type_recall) for scores in (rows.champion, rows.challenger))
    found = []
    for kind, inside in counted.items():
        change = challenger[inside].astype(np.float64) - champion[inside]
        moved = float(np.average(change, weights=rows.weight[inside]))
        lost, gained = _witnesses(change, None if rows.card is None else rows.card[inside])
        chance = 1.0 if moved >= -limits.type_loss else sign_test(lost, gained)
        found.append((chance, moved, kind, lost, gained))
    chance, moved, kind, lost, gained = min(found)
    return Check(
        NAME,
        chance >= limits.type_chance,
        f"of {kind} the catch moved by {moved:+.1%} where both catch {limits.type_recall:.0%} of all: {lost} cards "
        f"lost, {gained} gained, chance {sign_test(lost, gained):.2g}; {-limits.type_loss:+.0%} is allowed, or a "
        f"chance of {limits.type_chance:g}; {len(counted)} of {len(types)} types have {limits.type_frauds} frauds",
    )


def sign_test(lost: int, gained: int) -> float:
    """Return the probability of at least ``lost`` heads in ``lost + gained`` throws of a fair coin.

    Examples
    --------
    >>> sign_test(8, 0), sign_test(0, 0)
    (0.0039, 1.0)
    """
    throws = lost + gained
    return float(sum(math.comb(throws, heads) for heads in range(lost, throws + 1)) / 2**throws)


def _caught(rows: HeldOut, scores: npt.NDArray[np.float64], recall: float) -> BoolArray:
    """Return which rows reach the highest score that catches the share ``recall`` of the frauds."""
    frauds, weight = scores[rows.is_fraud], rows.weight[rows.is_fraud]
    order = np.argsort(-frauds, kind="stable")
    reached = np.cumsum(weight[order])
    place = int(np.searchsorted(reached, recall * reached[-1] * (1.0 - 1e-9)))
    return np.asarray(scores >= frauds[order[place]], np.bool_)


def _witnesses(change: npt.NDArray[np.float64], card: npt.NDArray[np.int64] | None) -> tuple[int, int]:
    """Return how many cards lost and how many gained."""
    place = np.arange(len(change)) if card is None else np.unique(card, return_inverse=True)[1]
    net = np.bincount(place, change)
    return int((net < 0).sum()), int((net > 0).sum())
