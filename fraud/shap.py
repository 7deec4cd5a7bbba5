"""Exact path-dependent TreeSHAP of one row, by quadrature.

Along a root-to-leaf path the Shapley value of a feature is the integral over t in [0, 1] of a polynomial of degree
below the depth, so ``ceil(depth / 2)`` Gauss-Legendre nodes integrate it exactly. One depth-first walk per tree carries
the products down and the sums up. The values add up to margin minus the expected margin.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraud.kernels import kernel
from fraud.trees import Float32Array, Forest, Int32Array, expand

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Explainer:
    """What a forest needs to be explained; made once per model.

    Parameters
    ----------
    share
        Per node: share of its parent's cover, times that of earlier edges of the same feature on its path.
    edge
        Per node: input its parent splits on; -1 at a root.
    earlier
        Per node: nearest node above it whose edge splits on the same input; -1 when there is none.
    times, weights
        Quadrature nodes and weights on [0, 1].
    """

    forest: Forest
    share: FloatArray
    edge: Int32Array
    earlier: Int32Array
    times: FloatArray
    weights: FloatArray


def explain_with(forest: Forest) -> Explainer:
    """Return the explainer of a forest."""
    share, edge, earlier = _edges(forest.feature, forest.left, forest.cover, forest.width)
    x, w = np.polynomial.legendre.leggauss(max(1, (forest.depth + 1) // 2))
    return Explainer(forest, share, edge, earlier, (x + 1.0) / 2.0, w / 2.0)


@kernel
def _edges(
    feature: Int32Array, left: Int32Array, cover: FloatArray, width: int
) -> tuple[FloatArray, Int32Array, Int32Array]:
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
            edge[child] = feature[node] % width
            above = np.int32(node)
            while above != -1 and edge[above] != edge[child]:
                above = parent[above]
            earlier[child] = above
            share[child] = cover[child] / total * (share[above] if above != -1 else 1.0)
    return share, edge, earlier


def attributions(explainer: Explainer, row: FloatArray) -> FloatArray:
    """Return each input's Shapley value in log-odds, shape ``(width,)``; positive pushes towards fraud."""
    forest = explainer.forest
    inputs = np.empty(2 * forest.width + 1, np.float32)
    expand(row, inputs)
    out = np.zeros(forest.width)
    _attribute(
        inputs,
        forest.feature,
        forest.threshold,
        forest.left,
        forest.value,
        forest.roots,
        forest.depth,
        forest.width,
        explainer.share,
        explainer.edge,
        explainer.earlier,
        explainer.times,
        explainer.weights,
        out,
    )
    return out


@kernel
def _attribute(
    inputs: Float32Array,
    feature: Int32Array,
    threshold: Float32Array,
    left: Int32Array,
    value: Float32Array,
    roots: Int32Array,
    depth: int,
    width: int,
    share: FloatArray,
    edge: Int32Array,
    earlier: Int32Array,
    times: FloatArray,
    weights: FloatArray,
    out: FloatArray,
) -> None:
    points = len(times)
    taken = np.zeros(len(feature))  # 1 where the row follows every edge of this feature on the path
    product = np.zeros((depth + 2, points))
    total = np.zeros((depth + 2, points))
    stack = np.zeros(depth + 2, np.int64)
    visited = np.zeros(depth + 2, np.int64)
    for root in roots:
        level = 0
        stack[0] = root
        visited[0] = 0
        product[0, :] = weights
        total[0, :] = 0.0
        while level >= 0:
            node = stack[level]
            if feature[node] != 2 * width and visited[level] < 2:
                child = left[node] + visited[level]
                goes_left = inputs[feature[node]] < threshold[node]
                hot = goes_left if visited[level] == 0 else not goes_left
                visited[level] += 1
                above = earlier[child]
                one = 1.0 if hot else 0.0
                if above >= 0:
                    one *= taken[above]
                for q in range(points):
                    factor = share[child] + (one - share[child]) * times[q]
                    if above >= 0:
                        factor /= share[above] + (taken[above] - share[above]) * times[q]
                    product[level + 1, q] = product[level, q] * factor
                    total[level + 1, q] = 0.0
                taken[child] = one
                level += 1
                stack[level] = child
                visited[level] = 0
                continue
            if feature[node] == 2 * width:
                for q in range(points):
                    total[level, q] = value[node] * product[level, q]
            if level > 0:
                above = earlier[node]
                gain = 0.0
                for q in range(points):
                    span = taken[node] - share[node]
                    gain += total[level, q] * span / (share[node] + span * times[q])
                    if above >= 0:
                        span = taken[above] - share[above]
                        gain -= total[level, q] * span / (share[above] + span * times[q])
                    total[level - 1, q] += total[level, q]
                out[edge[node]] += gain
            level -= 1
