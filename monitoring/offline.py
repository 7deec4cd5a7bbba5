"""Feast's offline value of every feature, over a lake that may be exchanged between two questions.

:class:`FeastHistory` asks Feast's ``get_historical_features``, which is what training does; the kernels themselves are
:func:`training.offline_vectors.history_vectors`. ``python -m monitoring prove`` holds both to the same bits.
"""

import contextlib
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud.features import (
    FEATURE_NAMES,
    SERVICE,
)
from fraud.history import Questions
from fraud.windows import ENTITIES, JOIN_KEYS, Entity
from monitoring.errors import FeastNotApplied
from stores.bundle_files import point_to
from stores.columns import microseconds
from stores.log import Log, places
from stores.opening import open_feature_store
from stores.windows_join import TOKENS
from training.dataset import entity_rows

FloatArray = npt.NDArray[np.float64]
REPOSITORY: Final = Path(__file__).resolve().parent.parent / "feature_repo"


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
