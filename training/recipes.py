"""A recipe as a file: the parameters that a search found, read by training and by the weekly loop."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Final

from training.errors import UnreadableSource
from training.fit import RECIPE, Recipe

_WORDS: Final = {int: "int", float: "float", tuple: "list of names"}


def read_recipe(path: Path | None) -> Recipe:
    """Return the recipe of a parameters file; without a file the product's own.

    Raises
    ------
    UnreadableSource
        The file is missing, no JSON object with a ``recipe``, or a parameter is unknown or of another type.
    """
    if path is None:
        return RECIPE
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        recipe = held["recipe"]
        known = {field.name: type(getattr(RECIPE, field.name)) for field in fields(Recipe)}
        for name, value in recipe.items():
            if name not in known:
                raise UnreadableSource(f"{path}: {name!r} is no parameter; there are {', '.join(known)}")
            if not _is(value, known[name]):
                raise UnreadableSource(f"{path}: {name} {value!r} is no {_WORDS[known[name]]}")
        return replace(RECIPE, **{name: known[name](value) for name, value in recipe.items()})
    except FileNotFoundError:
        raise UnreadableSource(f"{path}: no such file; python -m training search writes one") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableSource(f"{path}: is no parameters file with a recipe ({error})") from None


def _is(value: Any, kind: type) -> bool:
    if kind is tuple:
        return isinstance(value, list) and all(isinstance(name, str) for name in value)
    return not isinstance(value, bool) and isinstance(value, int if kind is int else int | float)


def write_recipe(path: Path, recipe: Recipe, about: Mapping[str, Any]) -> None:
    """Write a parameters file: the recipe, and how it was found."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"recipe": asdict(recipe), **about}, indent=2) + "\n", encoding="utf-8")
