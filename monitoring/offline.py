"""The offline value of every feature: what training reads of a lake for any transactions, at their own times.

:func:`history_vectors` calls the kernels of the offline store themselves (the log, its windows, the as-of join), which
takes seconds for a million rows; :class:`FeastHistory` asks Feast's ``get_historical_features``, which is what training
does. ``python -m monitoring prove`` holds both to the same bits.
"""

import contextlib
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud.features import (
    CARD_PROFILE_FEATURES,
    CONTEXT_FEATURES,
    CROSS_FEATURES,
    FEATURE_NAMES,
    HOME_COUNTRY,
    MERCHANT_PROFILE_FEATURES,
    SERVICE,
    VELOCITY,
    context_columns,
)
from fraud.history import Questions
from fraud.windows import ENTITIES, JOIN_KEYS, Entity
from monitoring.errors import FeastNotApplied
from stores.asof import EVER, Moments, newest_rows, sort_rows
from stores.bundle_files import point_to
from stores.columns import find_keys, floats, integers, joined, microseconds, number_keys
from stores.files import Location, Span, read_files
from stores.log import Log, load_log, places
from stores.opening import open_feature_store
from stores.windows_join import TOKENS, Asked, velocity_arrays
from training.dataset import entity_rows

FloatArray = npt.NDArray[np.float64]
Evaluate = Callable[[Path, pa.Table], FloatArray]
"""From a lake and rows of a transaction log to their features, shape ``(rows, len(FEATURE_NAMES))``, NaN for null."""

REPOSITORY: Final = Path(__file__).resolve().parent.parent / "feature_repo"
_PROFILES: Final[dict[Entity, tuple[str, ...]]] = {
    "card": (HOME_COUNTRY, *(feature.name for feature in CARD_PROFILE_FEATURES)),
    "merchant": tuple(feature.name for feature in MERCHANT_PROFILE_FEATURES),
}


def history_vectors(lake: Path, rows: pa.Table) -> FloatArray:
    """Return the features of ``rows`` as of their own times, from the lake's log and profiles, by the store's kernels.

    Parameters
    ----------
    lake
        Folder of the data set; without ``profiles`` in it every profile is null.
    rows
        In the schema of the transaction log, in any order; they need not be in the lake.
    """
    if not rows.num_rows:
        return np.empty((0, len(FEATURE_NAMES)))
    asked = entity_rows(rows)
    as_of_us = microseconds(asked["event_timestamp"])
    as_of_ms = as_of_us // 1000
    log = load_log(Location(str(lake)), first_ms=int(as_of_ms.min()), last_ms=int(as_of_ms.max()))
    windows = velocity_arrays(
        log,
        Asked(asked, as_of_ms, integers(asked["amount_minor"])),
        [feature.name for feature in VELOCITY + CROSS_FEATURES],
    )
    profiles = {name: column for entity in _PROFILES for name, column in _profile(lake, entity, asked).items()}
    inputs = {name: asked[name].to_pylist() for name in _CONTEXT_INPUTS}
    inputs |= {name: profiles[name].to_pylist() for name in _CONTEXT_PROFILES}
    context = context_columns(inputs)
    columns = {name: floats(column) for name, column in windows.items()}
    columns |= {feature.name: np.asarray(context[feature.name], np.float64) for feature in CONTEXT_FEATURES}
    columns |= {name: floats(column) for name, column in profiles.items() if name != HOME_COUNTRY}
    return np.stack([columns[name] for name in FEATURE_NAMES], axis=1)


_CONTEXT_INPUTS: Final = (
    "event_time_ms",
    "amount_minor",
    "channel",
    "merchant_category",
    "country",
    "device_token",
)
_CONTEXT_PROFILES: Final = (HOME_COUNTRY, "card_amount_median_30d", "merchant_amount_median_30d")


def _profile(lake: Path, entity: Entity, asked: pa.Table) -> dict[str, Any]:
    """Return the profile columns that each row sees: the newest published at or before its time."""
    location = Location(str(lake)).within(f"profiles/{entity}")
    names = _PROFILES[entity]
    if not location.exists():
        empty = {name: pa.nulls(asked.num_rows, pa.float64()) for name in names}
        return empty | ({HOME_COUNTRY: pa.nulls(asked.num_rows, pa.string())} if entity == "card" else {})
    as_of_us = microseconds(asked["event_timestamp"])
    key = JOIN_KEYS[entity]
    columns = (key, *names, "event_timestamp", "created_timestamp")
    table = read_files(location, columns, "event_timestamp", Span(None, int(as_of_us.max())))
    keys, (numbers,) = number_keys([table[key]])
    rows = sort_rows(
        numbers, microseconds(table["event_timestamp"]), microseconds(table["created_timestamp"]), len(keys)
    )
    ever = np.full(len(as_of_us), EVER, np.int64)
    place = newest_rows(rows, Moments(find_keys(keys, asked[key]), as_of_us, -ever, ever))
    index = pa.array(place, mask=place < 0)
    return {name: joined(table[name]).take(index) for name in names}


def questions_of(log: Log, rows: pa.Table) -> dict[Entity, Questions]:
    """Return what ``rows`` ask of their card, device, address and merchant in ``log``."""
    asked = entity_rows(rows)
    as_of_ms = microseconds(asked["event_timestamp"]) // 1000
    where = places(asked["latitude"], asked["longitude"])
    return {
        entity: log.questions(
            entity, key=asked[JOIN_KEYS[entity]], as_of_ms=as_of_ms, party=asked[TOKENS[entity]], place=where
        )
        for entity in ENTITIES
    }


def feast_vectors(store: Any, entities: pa.Table) -> FloatArray:
    """Return Feast's historical features of some entity rows, in their order.

    Parameters
    ----------
    store
        A ``feast.FeatureStore`` on which the repository was applied.
    entities
        As :func:`training.dataset.entity_rows` makes them.
    """
    service = store.get_feature_service(SERVICE)
    found = store.get_historical_features(entity_df=entities.to_pandas(), features=service).to_arrow()
    columns = [pc.cast(found[name], pa.float64()).to_numpy(zero_copy_only=False) for name in FEATURE_NAMES]
    return np.stack(columns, axis=1)


@dataclass(frozen=True)
class FeastHistory:
    """Feast over a lake that may be exchanged for another between two questions.

    Parameters
    ----------
    store
        A ``feast.FeatureStore`` whose sources lie below ``link``.
    link
        The symbolic link to the lake.
    """

    store: Any
    link: Path

    def vectors(self, lake: Path, rows: pa.Table) -> FloatArray:
        """Return what ``get_historical_features`` says of ``rows`` when the lake is ``lake``."""
        point_to(self.link, lake)
        return feast_vectors(self.store, entity_rows(rows))


@contextlib.contextmanager
def applied_feast(folder: Path, lake: Path) -> Iterator[FeastHistory]:
    """Apply the feature repository by Feast's own command to a registry in ``folder``, over an exchangeable lake.

    Raises
    ------
    FeastNotApplied
        The command failed; the message is its last line.
    """
    link, registry = folder / "lake", folder / "registry.db"
    point_to(link, lake)
    config = folder / "feature_store.yaml"
    text = (REPOSITORY / "feature_store.local.yaml").read_text(encoding="utf-8")
    config.write_text(re.sub(r"^  path: .*$", f"  path: {registry}", text, count=1, flags=re.MULTILINE), "utf-8")
    environ = {**os.environ, "FRAUD_LAKE": str(link)}
    feast = Path(sys.executable).with_name("feast")
    done = subprocess.run(  # noqa: S603  # Feast's own command
        [feast, "-c", REPOSITORY, "-f", config, "apply", "--skip-source-validation"],
        cwd=REPOSITORY.parent,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        said = done.stdout.decode(errors="replace").strip().splitlines()
        raise FeastNotApplied(f"feast apply ended with {done.returncode}: {said[-1] if said else 'it said nothing'}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield FeastHistory(open_feature_store(REPOSITORY, "local", config), link)
