"""The runtime gives XGBoost's margins to the last bit, and walks nothing it does not know."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from fraud.errors import CorruptBundle
from fraud.trees import Float32Array, FloatArray, parse_forest, predict_margin

WIDTH = 6
Spoil = Callable[[dict[str, Any]], object]


def sample(rows: int, seed: int) -> FloatArray:
    """Rows of mixed scales: counts, amounts, ties, a constant; about a fifth missing."""
    rng = np.random.default_rng(seed)
    columns = (
        rng.normal(size=rows),
        rng.poisson(2.0, rows).astype(np.float64),
        rng.lognormal(8.0, 2.0, rows),
        rng.integers(0, 2, rows).astype(np.float64),
        rng.uniform(-1e-6, 1e-6, rows),
        np.full(rows, 3.0),
    )
    table = np.stack(columns, axis=1)
    table[rng.random(table.shape) < 0.2] = np.nan
    return table


def fitted(rounds: int, seed: int = 1, **parameters: object) -> xgb.Booster:
    table = sample(1_200, seed)
    rng = np.random.default_rng(seed + 1)
    lean = np.nan_to_num(table[:, 0]) + np.nan_to_num(table[:, 1]) / 3 - np.isnan(table[:, 2])
    label = (lean + rng.normal(size=len(table)) > 1.0).astype(np.float64)
    chosen = {"objective": "binary:logistic", "nthread": 1, "seed": seed, **parameters}
    return xgb.train(chosen, xgb.DMatrix(table, label=label, nthread=1), rounds)


def as_json(booster: xgb.Booster) -> bytes:
    return bytes(booster.save_raw("json"))


def margins(booster: xgb.Booster, table: FloatArray) -> Float32Array:
    found: Float32Array = booster.predict(xgb.DMatrix(table, nthread=1), output_margin=True)
    return found


def assert_same_bits(booster: xgb.Booster, table: FloatArray) -> None:
    forest = parse_forest(as_json(booster))
    found = np.array([predict_margin(forest, row) for row in table])
    assert found.astype(np.float32).tobytes() == margins(booster, table).tobytes()
    assert np.array_equal(found, found.astype(np.float32))


@pytest.mark.parametrize("rounds", [1, 7, 8, 9, 33])
@pytest.mark.parametrize("depth", [1, 3, 6, 11])
def test_margins_are_xgboosts_bits(rounds: int, depth: int) -> None:
    booster = fitted(rounds, max_depth=depth, min_child_weight=0.1)
    assert_same_bits(booster, sample(400, seed=99))


@pytest.mark.parametrize(
    "parameters",
    [
        {"tree_method": "exact"},
        {"tree_method": "hist", "grow_policy": "lossguide", "max_leaves": 40, "max_depth": 0},
        {"base_score": 0.5},
        {"base_score": 0.003},
        {"scale_pos_weight": 20.0, "eta": 1.0},
        {"num_parallel_tree": 3, "subsample": 0.5},
        {"gamma": 1e9},  # every tree is one leaf
        {"max_depth": 4, "colsample_bytree": 0.5, "reg_alpha": 1.0},
    ],
    ids=str,
)
def test_margins_are_xgboosts_bits_however_it_was_trained(parameters: dict[str, Any]) -> None:
    assert_same_bits(fitted(10, **parameters), sample(400, seed=98))


def test_inputs_equal_to_thresholds_and_next_to_them_go_xgboosts_way() -> None:
    booster = fitted(20, max_depth=6)
    forest = parse_forest(as_json(booster))
    inner = forest.feature != 2 * WIDTH
    rng = np.random.default_rng(5)
    table = sample(600, seed=97)
    for column in range(WIDTH):
        edges = forest.threshold[inner & (forest.feature % WIDTH == column)]
        if len(edges):
            near = np.concatenate(
                (edges, np.nextafter(edges, np.float32(-np.inf)), np.nextafter(edges, np.float32(np.inf)))
            )
            table[:, column] = rng.choice(near, len(table))
    assert_same_bits(booster, table)


def test_zero_and_minus_zero_and_the_ends_of_float32_go_xgboosts_way() -> None:
    rng = np.random.default_rng(4)
    largest = float(np.finfo(np.float32).max)
    edges = np.array([0.0, -0.0, largest, -largest, 1e-45, -1e-45, 1e-310, np.nan])
    assert_same_bits(fitted(20), rng.choice(edges, (300, WIDTH)))


def test_row_of_nothing_but_missing_values_has_xgboosts_margin() -> None:
    assert_same_bits(fitted(15), np.full((1, WIDTH), np.nan))


def slow_margin(model: dict[str, Any], row: FloatArray) -> float:
    """Walk the JSON node by node: what XGBoost would do with an infinity, if it took one."""
    learner = model["learner"]
    base = np.float32(float(learner["learner_model_param"]["base_score"].strip("[]")))
    assert base == 0.5
    total = np.float32(0.0)
    for tree in learner["gradient_booster"]["model"]["trees"]:
        node = 0
        while tree["left_children"][node] != -1:
            value = np.float32(row[tree["split_indices"][node]])
            left = bool(tree["default_left"][node])
            if not np.isnan(value):
                left = bool(value < np.float32(tree["split_conditions"][node]))
            node = tree["left_children" if left else "right_children"][node]
        total = np.float32(total + np.float32(tree["split_conditions"][node]))
    return float(total)


def test_infinities_are_values_not_missing() -> None:
    booster = fitted(20, base_score=0.5)
    model = json.loads(as_json(booster))
    forest = parse_forest(as_json(booster))
    rng = np.random.default_rng(6)
    ordinary = sample(200, seed=96)
    assert [slow_margin(model, row) for row in ordinary] == margins(booster, ordinary).tolist()
    infinite = ordinary.copy()
    infinite[rng.random(infinite.shape) < 0.4] = np.inf
    infinite[rng.random(infinite.shape) < 0.3] = -np.inf
    found = [predict_margin(forest, row) for row in infinite]
    assert found == [slow_margin(model, row) for row in infinite]
    assert found != [predict_margin(forest, np.where(np.isinf(row), np.nan, row)) for row in infinite]


def test_start_of_the_sum_is_xgboosts_for_any_base_score() -> None:
    """NumPy's float32 logarithm differs from the C library's in about one base score of fifteen."""
    data = xgb.DMatrix(np.zeros((1, 2)), nthread=1)
    rng = np.random.default_rng(0)
    different = 0
    for base in rng.beta(0.5, 5.0, 300) * 0.98 + 1e-4:
        booster = xgb.Booster({"objective": "binary:logistic", "base_score": float(base), "nthread": 1}, [data])
        forest = parse_forest(as_json(booster))
        different += predict_margin(forest, np.zeros(2)) != float(booster.predict(data, output_margin=True)[0])
    assert different == 0


KINDS = ["c", "q", "c", "c"]


def categories(rows: int, seed: int) -> FloatArray:
    """Rows of a few, of many and of two categories beside a number; about a fifth missing."""
    rng = np.random.default_rng(seed)
    columns = (rng.integers(0, 7, rows), rng.normal(size=rows), rng.integers(0, 90, rows), rng.integers(0, 2, rows))
    table = np.stack(columns, axis=1).astype(np.float64)
    table[rng.random(table.shape) < 0.2] = np.nan
    return table


def categorical(rounds: int, **parameters: object) -> xgb.Booster:
    table = categories(2_000, 1)
    rng = np.random.default_rng(2)
    risky = np.isin(table[:, 0], (1, 4, 6)) + np.isin(table[:, 2], rng.choice(90, 40, replace=False))
    label = (risky + np.nan_to_num(table[:, 1]) + rng.normal(size=len(table)) > 1.5).astype(np.float64)
    chosen = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "nthread": 1,
        "min_child_weight": 0.1,
        **parameters,
    }
    data = xgb.DMatrix(table, label=label, feature_types=KINDS, enable_categorical=True, nthread=1)
    return xgb.train(chosen, data, rounds)


def assert_same_bits_of_categories(booster: xgb.Booster, table: FloatArray) -> None:
    data = xgb.DMatrix(table, feature_types=KINDS, enable_categorical=True, nthread=1)
    forest = parse_forest(as_json(booster))
    found = np.array([predict_margin(forest, row) for row in table])
    assert found.astype(np.float32).tobytes() == booster.predict(data, output_margin=True).tobytes()


@pytest.mark.parametrize("depth", [1, 3, 6])
@pytest.mark.parametrize("onehot", [1, 8, 1000], ids=["partitions", "both", "one against the rest"])
def test_margins_of_categorical_splits_are_xgboosts_bits(depth: int, onehot: int) -> None:
    booster = categorical(12, max_depth=depth, max_cat_to_onehot=onehot)
    forest = parse_forest(as_json(booster))
    assert len(forest.sets) > 0
    sizes = np.array([sum(int(word).bit_count() for word in held) for held in forest.sets])
    assert (sizes.max() > 1) == (onehot < 1000)
    assert_same_bits_of_categories(booster, categories(600, 99))


def test_values_that_are_no_category_of_a_set_go_xgboosts_way() -> None:
    """Unseen, at the end of a word of bits and beyond all, negative, with a fraction, missing."""
    rng = np.random.default_rng(3)
    odd = np.array([0, 1, 5, 6, 7, 31, 32, 63, 64, 89, 90, 95, 96, 127, 4e9, 1e30, 1.5, 6.99, 0.5, np.nan])
    table = rng.choice(odd, (600, 4))
    for onehot in (1, 1000):
        assert_same_bits_of_categories(categorical(12, max_cat_to_onehot=onehot), table)


def test_a_set_that_many_splits_ask_about_is_asked_once() -> None:
    forest = parse_forest(as_json(categorical(12, max_cat_to_onehot=1000)))
    asking = (forest.feature > 2 * forest.width).sum()
    assert 0 < len(forest.sets) < asking
    assert forest.span == 2 * forest.width + 1 + 2 * len(forest.sets)


def _spoil_tree(model: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> None:
    trees = model["learner"]["gradient_booster"]["model"]["trees"]
    change(next(tree for tree in trees if tree["categories_nodes"]))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda tree: tree["categories"].__setitem__(0, 65_536), "65535"),
        (lambda tree: tree["categories"].__setitem__(0, -1), "65535"),
        (lambda tree: tree["categories_sizes"].__setitem__(0, 0), "65535"),
        (lambda tree: tree["categories_nodes"].__setitem__(0, 10_000), "no XGBoost JSON model"),
        (lambda tree: tree["split_type"].__setitem__(tree["categories_nodes"][0], 0), "categorical splits"),
        (lambda tree: tree["split_indices"].__setitem__(tree["categories_nodes"][0], 4), "input 4 of 4"),
    ],
)
def test_categories_that_make_no_sense_are_refused(change: Callable[[dict[str, Any]], object], named: str) -> None:
    model = json.loads(as_json(categorical(3)))
    _spoil_tree(model, change)
    with pytest.raises(CorruptBundle, match=named.replace("no XGBoost", "not an XGBoost")):
        parse_forest(json.dumps(model).encode())


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"objective": "reg:squarederror"}, "gbtree / reg:squarederror"),
        ({"objective": "binary:logitraw"}, "gbtree / binary:logitraw"),
        ({"objective": "multi:softprob", "num_class": 2}, "gbtree / multi:softprob"),
        ({"booster": "dart"}, "dart / binary:logistic"),
        ({"booster": "gblinear"}, "gblinear / binary:logistic"),
    ],
)
def test_model_of_another_kind_is_refused_by_name(parameters: dict[str, object], named: str) -> None:
    table = sample(200, seed=3)
    data = xgb.DMatrix(np.nan_to_num(table), label=np.arange(200) % 2, nthread=1)
    booster = xgb.train({"objective": "binary:logistic", "nthread": 1, **parameters}, data, 2)
    with pytest.raises(CorruptBundle, match=f"model is {named}, not gbtree / binary:logistic"):
        parse_forest(as_json(booster))


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"null", b"[1]", b"\x80\x04pickle", b'{"learner": 5}', b'{"learner": {}}']
)
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(CorruptBundle, match="not an XGBoost JSON model"):
        parse_forest(content)


def trees_of(model: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = model["learner"]["gradient_booster"]["model"]["trees"][0]
    return tree


def start_from(text: object) -> Spoil:
    return lambda model: model["learner"]["learner_model_param"].update(base_score=text)


def put(name: str, node: int, value: object) -> Spoil:
    return lambda model: trees_of(model)[name].__setitem__(node, value)


@pytest.mark.parametrize(
    "spoil",
    [
        start_from("0"),
        start_from("1"),
        start_from("-3"),
        start_from("nan"),
        start_from("half"),
        start_from(0.5),
        start_from("[1E-1,2E-1]"),
        put("left_children", 1, 0),  # a loop
        put("right_children", 0, 1),  # two ways to one node
        put("right_children", 0, -1),
        put("left_children", 0, 10_000),
        put("split_indices", 0, WIDTH),
        put("split_indices", 0, -1),
        put("split_indices", 0, 10**30),
        put("split_conditions", 0, "x"),
        put("split_conditions", 0, None),
        lambda model: trees_of(model).pop("sum_hessian"),
        lambda model: trees_of(model).update(default_left=[]),
        lambda model: model["learner"]["gradient_booster"]["model"].update(trees=[7]),
        lambda model: model["learner"]["gradient_booster"]["model"].update(trees=None),
        lambda model: model["learner"]["learner_model_param"].update(num_feature="many"),
    ],
)
def test_spoilt_model_is_refused_not_walked(spoil: Spoil) -> None:
    model = json.loads(as_json(fitted(1, max_depth=3)))
    parse_forest(json.dumps(model).encode())
    spoil(model)
    with pytest.raises(CorruptBundle):
        parse_forest(json.dumps(model).encode())


def test_every_inner_node_has_its_children_side_by_side_below_it() -> None:
    forest = parse_forest(as_json(fitted(5, max_depth=5)))
    inner = forest.feature != 2 * WIDTH
    nodes = np.arange(len(forest.feature))
    assert (forest.left[inner] > nodes[inner]).all()
    assert (forest.left[~inner] == nodes[~inner]).all()
    assert len(set(forest.left[inner].tolist())) == inner.sum()
    assert len(nodes) == 2 * inner.sum() + len(forest.roots)
    assert (forest.depth, forest.width) == (5, WIDTH)
