"""One request for historical features, answered view by view; every row asked about comes back, in order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.types import from_feast_to_pyarrow_type

from fraud.errors import UnknownFeature
from fraud.windows import JOIN_KEYS, Entity
from stores.columns import integers, joined
from stores.errors import InvalidEntityFrame
from stores.files import Location
from stores.log import Log, load_log
from stores.tags import VELOCITY_TAG, tagged_entity
from stores.view_join import Rows, join_keys, join_view, require_columns, view_name
from stores.windows_join import Asked, states_at, velocity_arrays

ON_DEMAND_SLAB: Final = 65_536
"""Rows given to an on-demand function at a time."""


@dataclass(frozen=True)
class HistoryRequest:
    """What is asked of history.

    Parameters
    ----------
    rows
        Keys, times and request values.
    refs
        Features, ``view:feature``, in the order of the answer. Feast adds the inputs of on-demand views to them.
    views
        The stored views among them, by the name in the references.
    on_demand
        The on-demand views among them, likewise.
    locations
        Where each view's batch source lies, by the same name.
    full_names
        Whether features are named ``view__feature``.
    as_known
        Whether a row counts only once it had arrived (its created time is not after the question's).
    """

    rows: Rows
    refs: Sequence[tuple[str, str]]
    views: Mapping[str, FeatureView]
    on_demand: Mapping[str, OnDemandFeatureView]
    locations: Mapping[str, Location]
    full_names: bool = False
    as_known: bool = False

    def answer(self) -> Any:
        """Return the rows with their features, an Arrow table.

        States that Feast added because the windows need them are left out: the windows come from the log.
        """
        columns: dict[tuple[str, str], Any] = {}
        log = self._load_log()
        hidden = self._replaced_views()
        for name, view in self.views.items():
            features = [feature for owner, feature in self.refs if owner == name]
            entity = velocity_entity(view)
            if name in hidden:
                continue
            if entity is None:
                found = join_view(self.rows, view, features, self.locations[name], as_known=self.as_known)
            else:
                found = self._states(log, view, entity, features)
            columns |= {(name, feature): array for feature, array in found.items()}
        for name, on_demand in self.on_demand.items():
            features = [feature for owner, feature in self.refs if owner == name]
            found = (
                velocity_arrays(log, self._asked(), features)
                if log is not None and VELOCITY_TAG in on_demand.tags
                else self._run(on_demand, columns, features)
            )
            columns |= {(name, feature): array for feature, array in found.items()}
        return self._assemble(columns, hidden)

    def _assemble(self, columns: Mapping[tuple[str, str], Any], hidden: set[str]) -> Any:
        arrays = dict(zip(self.rows.table.column_names, self.rows.table.columns, strict=True))
        for owner, feature in self.refs:
            if owner in hidden:
                continue
            if (owner, feature) not in columns:
                raise UnknownFeature(f"view {owner!r} computes no feature {feature!r}")
            arrays[f"{owner}__{feature}" if self.full_names else feature] = columns[owner, feature]
        return pa.table(arrays)

    def _replaced_views(self) -> set[str]:
        """Return the velocity views whose states nobody needs because their windows are read from the log."""
        if not any(VELOCITY_TAG in view.tags for view in self.on_demand.values()):
            return set()
        return {name for name, view in self.views.items() if velocity_entity(view) is not None}

    def _load_log(self) -> Log | None:
        velocity = [name for name, view in self.views.items() if velocity_entity(view) is not None]
        if not velocity:
            return None
        times = self.rows.as_of_us // 1000
        last = int(times.max()) if len(times) else 0
        whole = not self._replaced_views()  # a state needs the whole past, a window its reach
        first = None if whole or not len(times) else int(times.min())
        return load_log(lake_of(self.locations[velocity[0]]), first_ms=first, last_ms=last)

    def _asked(self) -> Asked:
        table = self.rows.table
        as_of_ms = self.rows.as_of_us // 1000
        require_columns(
            table, ("amount_minor", "card_token", "merchant_token", "latitude", "longitude", *JOIN_KEYS.values())
        )
        if "event_time_ms" in table.column_names:
            given = integers(table["event_time_ms"], null=-1)
            wrong = np.flatnonzero(given != as_of_ms)
            if len(wrong):
                raise InvalidEntityFrame(
                    f"row {wrong[0]}: event_time_ms is {given[wrong[0]]}, its event_timestamp is "
                    f"{as_of_ms[wrong[0]]} in epoch milliseconds ({len(wrong)} rows differ)"
                )
        require_columns(table, ("amount_minor", *JOIN_KEYS.values()), nulls=False)
        return Asked(table, as_of_ms, integers(table["amount_minor"]))

    def _states(self, log: Log | None, view: FeatureView, entity: Entity, features: Sequence[str]) -> dict[str, Any]:
        if log is None:
            raise UnknownFeature(f"view {view.name!r} has no transaction log")
        key = log.numbers(entity, self.rows.table[join_keys(view)[0][1]])
        state, revision = states_at(log.history(entity), key, self.rows.as_of_us // 1000)
        both = {f"{entity}_state": state, f"{entity}_revision": revision}
        return {feature: both[feature] for feature in features if feature in both}

    def _run(
        self, view: OnDemandFeatureView, columns: Mapping[tuple[str, str], Any], features: Sequence[str]
    ) -> dict[str, Any]:
        """Run an on-demand view by Feast's own code, over nothing but its declared inputs, slab by slab."""
        inputs = {
            feature.name: columns[view_name(source), feature.name]
            for source in view.source_feature_view_projections.values()
            for feature in source.features
        }
        wanted = [field.name for source in view.source_request_sources.values() for field in source.schema]
        require_columns(self.rows.table, wanted)
        inputs |= {name: self.rows.table[name] for name in wanted}
        table = pa.table(inputs)
        types = {field.name: from_feast_to_pyarrow_type(field.dtype) for field in view.features}
        if not table.num_rows:
            return {feature: pa.array([], types[feature]) for feature in features}
        parts = [
            view.transform_arrow(table.slice(start, ON_DEMAND_SLAB))
            for start in range(0, table.num_rows, ON_DEMAND_SLAB)
        ]
        made = pa.concat_tables(parts)
        return {feature: _null_for_nan(pc.cast(joined(made[feature]), types[feature])) for feature in features}


def lake_of(log: Location) -> Location:
    """Return the lake whose transaction log lies at a location."""
    return Location(log.address.rstrip("/").rpartition("/")[0], log.endpoint)


def velocity_entity(view: FeatureView) -> Entity | None:
    """Return the entity whose transaction log stands behind a view; null for an ordinary view."""
    source = view.batch_source
    return tagged_entity({} if source is None else source.tags)


def _null_for_nan(array: Any) -> Any:
    if not pa.types.is_floating(array.type):
        return array
    return pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
