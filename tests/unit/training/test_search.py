"""A search is the same again for the same seed, stays in its bounds and its window, and its file is read back."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.replays import START_MS, make_world
from training.dataset import TrainingSet
from training.errors import InvalidSplit, UnreadableSource
from training.fit import RECIPE, Recipe
from training.ranking import DAY_MS
from training.recipes import read_recipe, write_recipe
from training.search import SPACE, SearchPlan, _folds, rounded, search

ROWS = make_world().rows
PLAN = SearchPlan(folds=1, trials=4, seed=5)


def nothing(_done: int, _total: int) -> None:
    """Show no progress."""


def window(days: int) -> TrainingSet:
    taken = ROWS.between(START_MS, START_MS + days * DAY_MS)
    return replace(
        ROWS, matrix=ROWS.matrix[taken], is_fraud=ROWS.is_fraud[taken], event_time_ms=ROWS.event_time_ms[taken]
    )


def test_same_seed_same_trials_and_another_seed_another() -> None:
    one, again = (search(window(40), PLAN, progress=nothing) for _ in range(2))
    assert one == again
    other = search(window(40), replace(PLAN, seed=6), progress=nothing)
    assert [trial.recipe for trial in other.trials[1:]] != [trial.recipe for trial in one.trials[1:]]


def test_the_products_own_recipe_is_tried_first_and_the_best_is_no_worse() -> None:
    calls: list[tuple[int, int]] = []
    found = search(window(40), PLAN, progress=lambda done, of: calls.append((done, of)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert found.own == found.trials[0]
    assert found.own.recipe == RECIPE
    assert found.best.pr_auc == max(trial.pr_auc for trial in found.trials) >= found.own.pr_auc
    for trial in found.trials:
        for name, (low, high) in SPACE.items():
            assert low <= getattr(trial.recipe, name) <= high
        assert (trial.recipe.trees, trial.recipe.early_stopping) == (RECIPE.trees, RECIPE.early_stopping)


def test_folds_lie_inside_the_window_and_a_delay_apart() -> None:
    rows = window(50)
    folds = _folds(rows, SearchPlan(folds=3))
    days = rows.event_time_ms // DAY_MS - START_MS // DAY_MS
    ends = []
    for fold in folds:
        fit, stop, score = (days[part] for part in (fold.fit, fold.stop, fold.score))
        assert fit.max() < stop.min() <= stop.max()
        assert score.min() - stop.max() == 8
        ends.append(int(score.max()))
    assert ends == [35, 42, 49]


def test_a_window_too_short_and_a_search_too_long_are_refused() -> None:
    with pytest.raises(InvalidSplit, match="20 days are too few to search in"):
        search(window(20), PLAN, progress=nothing)
    with pytest.raises(InvalidSplit, match="trials 201 is more than 200"):
        SearchPlan(trials=201)


def test_a_recipe_is_read_as_it_was_written(tmp_path: Path) -> None:
    recipe = rounded(Recipe(depth=4, learning_rate=0.123456))
    assert recipe.learning_rate == 0.1235
    path = tmp_path / "new" / "parameters.json"
    write_recipe(path, recipe, {"pr_auc": 0.5})
    assert read_recipe(path) == recipe
    assert read_recipe(None) == RECIPE
    assert json.loads(path.read_text())["pr_auc"] == 0.5


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"recipe": {"leaves": 3}}', "'leaves' is no parameter; there are trees"),
        ('{"recipe": {"depth": 3.5}}', r"depth 3\.5 is no int"),
        ('{"recipe": {"subsample": true}}', "subsample True is no float"),
        ("[]", "is no parameters file with a recipe"),
        ("{", "is no parameters file with a recipe"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "parameters.json"
    path.write_text(text)
    with pytest.raises(UnreadableSource, match=sentence):
        read_recipe(path)
    with pytest.raises(UnreadableSource, match="no such file; python -m training search"):
        read_recipe(tmp_path / "absent.json")
