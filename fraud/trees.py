"""The model runtime: gradient-boosted trees walked on flat arrays, bit for bit what XGBoost computes.

Every sum is float32 in tree order, as XGBoost does it; a missing value is turned into an infinity that falls to the
side the split defaults to. The JSON model is data: nothing in it is executed.

A categorical split asks whether a value is in a set, and costs a numeric one nothing: each set that a model asks about
becomes one more input, 1 for what is in it, which is compared with a half. As in XGBoost what is in the set goes right,
and a value that is no category of it (unseen, negative, beyond all) goes left; a fraction is cut off.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from fraud.errors import CorruptBundle
from fraud.kernels import kernel

Float32Array = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]
Int32Array = npt.NDArray[np.int32]
WordArray = npt.NDArray[np.uint32]

LARGEST_CATEGORY: Final = 65_535
"""A set is kept as bits; XGBoost would take categories to 2^24."""

_WORD: Final = 32
_HALF: Final = 0.5


@dataclass(frozen=True)
class Forest:
    """Trees as flat arrays, the children of a node side by side, nodes of a tree in breadth-first order.

    Parameters
    ----------
    feature
        Shape ``(nodes,)``: the input a node splits on, plus ``width`` when a missing value goes left; ``2 * width`` (an
        input that is always smaller) at a leaf, which is its own left child; ``2 * width + 1 + 2 * set`` where it asks
        about a set, plus 1 when a missing value goes left.
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
    sets
        Bits of the sets of categories that splits ask about, shape ``(sets, words)``.
    set_inputs
        The input that each set is asked about.
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
    sets: WordArray = field(default_factory=lambda: np.zeros((0, 1), np.uint32))
    set_inputs: Int32Array = field(default_factory=lambda: np.zeros(0, np.int32))

    @cached_property
    def span(self) -> int:
        """Length of the expanded inputs."""
        return 2 * self.width + 1 + 2 * len(self.sets)


def parse_forest(model_json: bytes) -> Forest:
    """Return the forest in a model that XGBoost saved as JSON.

    Raises
    ------
    CorruptBundle
        Not a binary logistic tree model, or one with a category above ``LARGEST_CATEGORY``.
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


class _Sets:
    """The sets of categories that a model asks about, each once per input."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, tuple[int, ...]], int] = {}

    def of(self, tree: dict[str, list[Any]], width: int) -> dict[int, int]:
        """Return the number of the set that each categorical split of a tree asks about."""
        held = tree.get("categories", ())
        found = {}
        for node, first, size in zip(
            tree.get("categories_nodes", ()),
            tree.get("categories_segments", ()),
            tree.get("categories_sizes", ()),
            strict=True,
        ):
            some = tuple(sorted(int(category) for category in held[first : first + size]))
            if not some or not 0 <= some[0] <= some[-1] <= LARGEST_CATEGORY:
                raise CorruptBundle(f"a split on categories {some[:1]}..{some[-1:]}, not 0..{LARGEST_CATEGORY}")
            place = int(tree["split_indices"][node])
            if not 0 <= place < width:
                raise CorruptBundle(f"a split on input {place} of {width}")
            found[int(node)] = self._numbers.setdefault((place, some), len(self._numbers))
        if {node for node, kind in enumerate(tree.get("split_type", ())) if kind} != set(found):
            raise CorruptBundle("a tree's categorical splits are not those it has categories of")
        return found

    def bits(self) -> WordArray:
        """Return each set's bits."""
        words = 1 + max((some[-1] // _WORD for _, some in self._numbers), default=0)
        out = np.zeros((len(self._numbers), words), np.uint32)
        for (_, some), number in self._numbers.items():
            for category in some:
                out[number, category // _WORD] |= np.uint32(1 << category % _WORD)
        return out

    def inputs(self) -> Int32Array:
        """Return the input that each is asked about."""
        return np.array([place for place, _ in self._numbers], np.int32)


def _flatten(trees: list[dict[str, list[float]]], width: int, base_margin: np.float32) -> Forest:
    sets = _Sets()
    feature: list[int] = []
    threshold: list[float] = []
    left: list[int] = []
    value: list[float] = []
    cover: list[float] = []
    roots: list[int] = []
    deepest = 0
    for tree in trees:
        asked = sets.of(tree, width)
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
            goes_left = bool(tree["default_left"][node])
            if node in asked:
                threshold.append(_HALF)
                feature.append(2 * width + 1 + 2 * asked[node] + goes_left)
            else:
                threshold.append(np.inf if leaf else tree["split_conditions"][node])
                default = width if goes_left else 0
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
        sets.bits(),
        sets.inputs(),
    )


@kernel
def expand(row: FloatArray, inputs: Float32Array, sets: WordArray, set_inputs: Int32Array) -> None:
    """Write float32 ``row`` twice into ``inputs``, shape ``(forest.span,)``: missing as +inf, then as -inf.

    Each set follows, twice as well: 1 for what is in it, 0 for what is not, missing as +inf, then as -inf.
    """
    width = len(row)
    for index in range(width):
        value = np.float32(row[index])
        missing = value != value  # noqa: PLR0124  # NaN, in a form that numba compiles to one instruction
        inputs[index] = np.float32(np.inf) if missing else value
        inputs[width + index] = np.float32(-np.inf) if missing else value
    inputs[2 * width] = np.float32(0.0)
    for number in range(len(sets)):
        value = np.float32(row[set_inputs[number]])
        place = 2 * width + 1 + 2 * number
        if value != value:  # noqa: PLR0124  # NaN, as above
            inputs[place], inputs[place + 1] = np.float32(np.inf), np.float32(-np.inf)
            continue
        held = False
        if value >= np.float32(0.0) and value < np.float32(_WORD * sets.shape[1]):
            category = np.int64(value)
            held = (np.int64(sets[number, category // _WORD]) >> (category % _WORD)) & 1 == 1
        inputs[place] = inputs[place + 1] = np.float32(1.0) if held else np.float32(0.0)


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
    inputs = np.empty(forest.span, np.float32)
    expand(row, inputs, forest.sets, forest.set_inputs)
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
