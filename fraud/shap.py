"""Exact path-dependent TreeSHAP of one row, by quadrature.

Along a root-to-leaf path the Shapley value of a feature is the integral over t in [0, 1] of a polynomial of degree
below the depth, so ``ceil(depth / 2)`` Gauss-Legendre nodes integrate it exactly. Products are carried down each tree
and sums up. What an edge multiplies by depends on the row only by whether the row follows the edge, and whether it
followed the earlier edges of the same feature: three cases a node, whose factors are worked out once a model, so that
no row divides. The values add up to margin minus the expected margin.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud.kernels import kernel
from fraud.trees import Float32Array, Forest, Int32Array, expand

FloatArray = npt.NDArray[np.float64]

LANES: Final = 4
"""Quadrature nodes of one pass: enough for trees to a depth of 8; deeper ones take a pass more."""
_CASES: Final = 3


@dataclass(frozen=True)
class Explainer:
    """What a forest needs to be explained; made once per model.

    Parameters
    ----------
    inner, tips
        The nodes that split, tree by tree, parents before children: those with a child that splits, and the others.
    inner_starts, tip_starts
        Where each tree's begin, and an end; shape ``(trees + 1,)``.
    earlier
        Per node: place in its tree of the nearest node above whose edge has the same input; the largest tree's size
        when there is none.
    factors
        Shape ``(passes, nodes, 3, 2, LANES)``: what a node multiplies the product of its parent by, and what its sum is
        worth to its input, for each case: the row follows neither its edge nor the earlier ones, only those, or both.
        The value of a leaf is in what it multiplies by. Held as float32, as XGBoost holds all of it: half the memory to
        walk through, and 1e-7 of a log-odds.
    weights
        Quadrature weights on [0, 1], shape ``(passes, LANES)``; the last are zero where fewer are needed.
    largest
        Nodes of the largest tree.
    owner
        Per node the input it splits on; 0 at a leaf.
    """

    forest: Forest
    inner: Int32Array
    inner_starts: Int32Array
    tips: Int32Array
    tip_starts: Int32Array
    earlier: Int32Array
    factors: Float32Array
    weights: FloatArray
    largest: int
    owner: Int32Array


def explain_with(forest: Forest) -> Explainer:
    """Return the explainer of a forest."""
    x, w = np.polynomial.legendre.leggauss(max(1, (forest.depth + 1) // 2))
    passes = -(-len(x) // LANES)
    times, weights = np.full(passes * LANES, 0.5), np.zeros(passes * LANES)
    times[: len(x)], weights[: len(x)] = (x + 1.0) / 2.0, w / 2.0
    owner = _owners(forest)
    earlier, share = _edges(forest.feature, owner, forest.left, forest.cover, forest.width)
    nodes = len(forest.feature)
    ends = np.append(forest.roots[1:], nodes)
    largest = int((ends - forest.roots).max(initial=1))
    first = np.repeat(forest.roots, ends - forest.roots)
    splits = forest.feature != 2 * forest.width
    last = splits & ~splits[forest.left] & ~splits[np.minimum(forest.left + 1, nodes - 1)]
    inner, tips = np.flatnonzero(splits & ~last), np.flatnonzero(last)
    value = np.where(splits, 1.0, forest.value.astype(np.float64))
    bounds = np.append(forest.roots, nodes)
    return Explainer(
        forest,
        inner.astype(np.int32),
        np.searchsorted(inner, bounds).astype(np.int32),
        tips.astype(np.int32),
        np.searchsorted(tips, bounds).astype(np.int32),
        np.where(earlier < 0, largest, earlier - first).astype(np.int32),
        np.stack([_factors(share, earlier, value, part) for part in times.reshape(passes, LANES)]),
        weights.reshape(passes, LANES),
        largest,
        owner,
    )


def _owners(forest: Forest) -> Int32Array:
    """Return the input each node splits on, also where it asks about a set of categories."""
    of_sets = np.append(forest.set_inputs, np.int32(0))
    leaf, asked = 2 * forest.width, (forest.feature - 2 * forest.width - 1) // 2
    numeric = np.where(forest.feature == leaf, 0, forest.feature % max(1, forest.width))
    owners: Int32Array = np.where(forest.feature > leaf, of_sets[np.maximum(asked, -1)], numeric).astype(np.int32)
    return owners


@kernel
def _edges(
    feature: Int32Array, owner: Int32Array, left: Int32Array, cover: FloatArray, width: int
) -> tuple[Int32Array, FloatArray]:
    """Return the earlier edge of the same input (-1 for none) and the share of the cover above that they leave."""
    nodes = len(feature)
    share = np.ones(nodes)
    edge = np.full(nodes, -1, np.int32)
    earlier = np.full(nodes, -1, np.int32)
    parent = np.full(nodes, -1, np.int32)
    for node in range(nodes):
        if feature[node] == 2 * width:
            continue
        total = cover[left[node]] + cover[left[node] + 1]
        for child in range(left[node], left[node] + 2):
            parent[child] = node
            edge[child] = owner[node]
            above = np.int32(node)
            while above != -1 and edge[above] != edge[child]:
                above = parent[above]
            earlier[child] = above
            share[child] = cover[child] / total * (share[above] if above != -1 else 1.0)
    return earlier, share


@kernel
def _factors(share: FloatArray, earlier: Int32Array, value: FloatArray, times: FloatArray) -> Float32Array:
    factors = np.ones((len(share), _CASES, 2, LANES), np.float32)
    for node in range(len(share)):
        above = earlier[node]
        for case in range(_CASES):
            span = (1.0 if case == 2 else 0.0) - share[node]
            before = 0.0 if above == -1 else (0.0 if case == 0 else 1.0) - share[above]
            for q in range(LANES):
                here = share[node] + span * times[q]
                gone = 1.0 if above == -1 else share[above] + before * times[q]
                factors[node, case, 0, q] = here / gone * value[node]
                factors[node, case, 1, q] = span / here - before / gone
    return factors


def attributions(explainer: Explainer, row: FloatArray) -> FloatArray:
    """Return each input's Shapley value in log-odds, shape ``(width,)``; positive pushes towards fraud."""
    forest = explainer.forest
    inputs = np.empty(forest.span, np.float32)
    expand(row, inputs, forest.sets, forest.set_inputs)
    out = np.zeros(forest.width)
    for factors, weights in zip(explainer.factors, explainer.weights, strict=True):
        _attribute(
            inputs,
            forest.feature,
            forest.threshold,
            forest.left,
            forest.roots,
            explainer.owner,
            explainer.inner,
            explainer.inner_starts,
            explainer.tips,
            explainer.tip_starts,
            explainer.earlier,
            factors,
            weights,
            explainer.largest,
            out,
        )
    return out


@kernel
def _attribute(
    inputs: Float32Array,
    feature: Int32Array,
    threshold: Float32Array,
    left: Int32Array,
    roots: Int32Array,
    owner: Int32Array,
    inner: Int32Array,
    inner_starts: Int32Array,
    tips: Int32Array,
    tip_starts: Int32Array,
    earlier: Int32Array,
    factors: Float32Array,
    weights: FloatArray,
    largest: int,
    out: FloatArray,
) -> None:
    """Add the share of these quadrature nodes to ``out``; no branch hangs on the row."""
    sums = np.empty((largest, LANES))  # of the tree at hand: products on the way down, sums on the way up
    cases = np.empty(largest + 1, np.int64)
    cases[largest] = 2  # nothing earlier is as if all of it had been followed
    for tree in range(len(roots)):
        first = roots[tree]
        cases[0] = 2
        for q in range(LANES):
            sums[0, q] = weights[q]
        for place in range(inner_starts[tree], inner_starts[tree + 1]):
            node = inner[place]
            here, child = node - first, left[node]
            one, two, three, four = sums[here, 0], sums[here, 1], sums[here, 2], sums[here, 3]
            goes = 1 if inputs[feature[node]] < threshold[node] else 0
            before = cases[earlier[child]] >> 1  # the same for both children: their edges have one input
            case, other = before * (1 + goes), before * (2 - goes)
            at = child - first
            cases[at], cases[at + 1] = case, other
            sums[at, 0] = one * factors[child, case, 0, 0]
            sums[at, 1] = two * factors[child, case, 0, 1]
            sums[at, 2] = three * factors[child, case, 0, 2]
            sums[at, 3] = four * factors[child, case, 0, 3]
            sums[at + 1, 0] = one * factors[child + 1, other, 0, 0]
            sums[at + 1, 1] = two * factors[child + 1, other, 0, 1]
            sums[at + 1, 2] = three * factors[child + 1, other, 0, 2]
            sums[at + 1, 3] = four * factors[child + 1, other, 0, 3]
        for place in range(tip_starts[tree], tip_starts[tree + 1]):  # two leaves: down and up in one step
            node = tips[place]
            here, child = node - first, left[node]
            goes = 1 if inputs[feature[node]] < threshold[node] else 0
            before = cases[earlier[child]] >> 1
            case, other = before * (1 + goes), before * (2 - goes)
            gain = 0.0
            for q in range(LANES):
                product = sums[here, q]
                left_sum, right_sum = product * factors[child, case, 0, q], product * factors[child + 1, other, 0, q]
                gain += left_sum * factors[child, case, 1, q] + right_sum * factors[child + 1, other, 1, q]
                sums[here, q] = left_sum + right_sum
            out[owner[node]] += gain
        for place in range(inner_starts[tree + 1] - 1, inner_starts[tree] - 1, -1):
            node = inner[place]
            here, child = node - first, left[node]
            at = child - first
            case, other = cases[at], cases[at + 1]
            one, two, three, four = sums[at, 0], sums[at, 1], sums[at, 2], sums[at, 3]
            gain = (one * factors[child, case, 1, 0] + two * factors[child, case, 1, 1]) + (
                three * factors[child, case, 1, 2] + four * factors[child, case, 1, 3]
            )
            five, six, seven, eight = sums[at + 1, 0], sums[at + 1, 1], sums[at + 1, 2], sums[at + 1, 3]
            gain += (five * factors[child + 1, other, 1, 0] + six * factors[child + 1, other, 1, 1]) + (
                seven * factors[child + 1, other, 1, 2] + eight * factors[child + 1, other, 1, 3]
            )
            sums[here, 0], sums[here, 1] = one + five, two + six
            sums[here, 2], sums[here, 3] = three + seven, four + eight
            out[owner[node]] += gain
