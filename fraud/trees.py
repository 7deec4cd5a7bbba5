"""The model runtime: gradient-boosted trees walked on flat arrays, bit for bit what XGBoost computes.

Every sum is float32 in tree order, as XGBoost does it; a missing value is turned into an infinity that falls to the
side the split defaults to. The JSON model is data: nothing in it is executed.
"""

import math
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from fraud.errors import CorruptBundle
from fraud.kernels import kernel

Float32Array = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]
Int32Array = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Forest:
    """Trees as flat arrays, the children of a node side by side, nodes of a tree in breadth-first order.

    Parameters
    ----------
    feature
        Shape ``(nodes,)``: the input a node splits on, plus ``width`` when a missing value goes left; ``2 * width`` (an
        input that is always smaller) at a leaf, which is its own left child.
    threshold
        Left when the input is smaller; +inf at a leaf.
    left
        Left child; the right one is next to it.
    value
        Output of a leaf; 0 elsewhere.
    cover
        Sum of hessians, for attributions.
    roots
        Root of each tree.
    depth
        Of the deepest tree.
    width
        Number of inputs.
    base_margin
        What the sum starts from.
    """

    feature: Int32Array
    threshold: Float32Array
    left: Int32Array
    value: Float32Array
    cover: FloatArray
    roots: Int32Array
    depth: int
    width: int
    base_margin: np.float32


def parse_forest(model_json: bytes) -> Forest:
    """Return the forest in a model that XGBoost saved as JSON.

    Raises
    ------
    CorruptBundle
        Not a binary logistic tree model, or one with categorical splits.
    """
    try:
        learner = msgspec.json.decode(model_json)["learner"]
        booster = learner["gradient_booster"]
        objective = learner["objective"]["name"]
        parameters = learner["learner_model_param"]
        if booster["name"] != "gbtree" or objective != "binary:logistic":
            raise CorruptBundle(f"model is {booster['name']} / {objective}, not gbtree / binary:logistic")
        width = int(parameters["num_feature"])
        base = np.float32(float(parameters["base_score"].strip("[]")))
        if not 0.0 < base < 1.0:
            raise CorruptBundle(f"model starts from {base}, which is no probability between 0 and 1")
        return _flatten(booster["model"]["trees"], width, np.float32(_base_margin(base)))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, msgspec.DecodeError) as error:
        raise CorruptBundle(f"model is not an XGBoost JSON model: {error!r}") from None


@kernel
def _base_margin(base: np.float32) -> np.float32:
    """Return the log-odds of ``base`` by the C library's float32 logarithm, as XGBoost does; NumPy's differs."""
    return np.float32(-math.log(np.float32(1.0) / base - np.float32(1.0)))


def _flatten(trees: list[dict[str, list[float]]], width: int, base_margin: np.float32) -> Forest:
    feature: list[int] = []
    threshold: list[float] = []
    left: list[int] = []
    value: list[float] = []
    cover: list[float] = []
    roots: list[int] = []
    deepest = 0
    for tree in trees:
        if any(tree.get("split_type", ())):
            raise CorruptBundle("model has categorical splits, which this runtime does not walk")
        first = len(feature)
        roots.append(first)
        lefts, rights = tree["left_children"], tree["right_children"]
        order, depths = [0], [0]
        place = {0: 0}
        for position, node in enumerate(order):  # grows while it is walked: breadth first
            if lefts[node] == -1:
                continue
            for child in (int(lefts[node]), int(rights[node])):
                if child in place or child < 0:
                    raise CorruptBundle(f"node {child} of a tree has two parents or none")
                place[child] = len(order)
                order.append(child)
                depths.append(depths[position] + 1)
        deepest = max(deepest, depths[-1])
        for position, node in enumerate(order):
            leaf = lefts[node] == -1
            if not leaf and not 0 <= tree["split_indices"][node] < width:
                raise CorruptBundle(f"a split on input {tree['split_indices'][node]} of {width}")
            cover.append(tree["sum_hessian"][node])
            value.append(tree["split_conditions"][node] if leaf else 0.0)
            threshold.append(np.inf if leaf else tree["split_conditions"][node])
            default = width if tree["default_left"][node] else 0
            feature.append(2 * width if leaf else int(tree["split_indices"][node]) + default)
            left.append(first + position if leaf else first + place[int(lefts[node])])
    if None in value or None in threshold or None in cover:
        raise CorruptBundle("a number of a tree is null")
    return Forest(
        np.array(feature, np.int32),
        np.array(threshold, np.float32),
        np.array(left, np.int32),
        np.array(value, np.float32),
        np.array(cover, np.float64),
        np.array(roots, np.int32),
        deepest,
        width,
        base_margin,
    )


@kernel
def expand(row: FloatArray, inputs: Float32Array) -> None:
    """Write float32 ``row`` twice into ``inputs``, shape ``(2 * width + 1,)``: missing as +inf, then as -inf."""
    width = len(row)
    for index in range(width):
        value = np.float32(row[index])
        missing = value != value  # noqa: PLR0124  # NaN, in a form that numba compiles to one instruction
        inputs[index] = np.float32(np.inf) if missing else value
        inputs[width + index] = np.float32(-np.inf) if missing else value
    inputs[2 * width] = np.float32(0.0)


@kernel
def _walk(
    inputs: Float32Array,
    feature: Int32Array,
    threshold: Float32Array,
    left: Int32Array,
    value: Float32Array,
    roots: Int32Array,
    depth: int,
    base: np.float32,
) -> np.float32:
    """Sum the leaves, eight trees at a time: independent walks keep the processor busy."""
    total = base
    nodes = np.empty(8, np.int32)
    first = 0
    while first < len(roots):
        some = min(8, len(roots) - first)
        for k in range(some):
            nodes[k] = roots[first + k]
        for _ in range(depth):
            for k in range(some):
                node = nodes[k]
                nodes[k] = left[node] + np.int32(not (inputs[feature[node]] < threshold[node]))
        for k in range(some):
            total += value[nodes[k]]
        first += 8
    return total


def predict_margin(forest: Forest, row: FloatArray) -> float:
    """Return the margin (log-odds before calibration) of one row, shape ``(width,)``; NaN is missing."""
    inputs = np.empty(2 * forest.width + 1, np.float32)
    expand(row, inputs)
    return float(
        _walk(
            inputs,
            forest.feature,
            forest.threshold,
            forest.left,
            forest.value,
            forest.roots,
            forest.depth,
            forest.base_margin,
        )
    )
