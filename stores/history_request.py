"""One request for historical features, answered view by view; every row asked about comes back, in order."""

from collections.abc import Iterator, Mapping, Sequence
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
from stores.as_known import AsKnown
from stores.columns import IntArray, integers, joined
from stores.context_arrays import context_arrays
from stores.errors import InvalidEntityFrame
from stores.files import Location
from stores.log import Log, load_log, log_days
from stores.tags import CONTEXT_TAG, VELOCITY_TAG, tagged_entity
from stores.velocity_slabs import MOST_ROWS, VelocitySlabs
from stores.view_join import Rows, ViewRows, join_keys, require_columns, require_numbers, view_name
from stores.windows_join import Asked, known_states_at, states_at, velocity_columns_of

ROWS: Final = 131_072
"""Rows answered at a time: bounds the memory beside sources and answer to about 500 MB."""


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
        Counts a row only once it had arrived, if given.
    log_rows
        How many rows of the transaction log may be in memory for the windows.
    """

    rows: Rows
    refs: Sequence[tuple[str, str]]
    views: Mapping[str, FeatureView]
    on_demand: Mapping[str, OnDemandFeatureView]
    locations: Mapping[str, Location]
    full_names: bool = False
    as_known: AsKnown | None = None
    log_rows: int = MOST_ROWS

    def answer(self) -> Any:
        """Return the rows with their features, an Arrow table."""
        return pa.concat_tables(self.tables())

    def tables(self) -> Iterator[Any]:
        """Yield the rows with their features in order, some rows at a time; sources are read once.

        States that Feast added because the windows need them are left out: the windows come from the log.
        """
        hidden = self._replaced_views()
        self._check_names(hidden)
        self._check_values()
        velocity = self._velocity()
        log = self._whole_log() if velocity is None else None
        views = {
            name: ViewRows(view, self._features(name), self.locations[name], self.rows.as_of_us)
            for name, view in self.views.items()
            if velocity_entity(view) is None
        }
        for start in range(0, max(1, len(self.rows.as_of_us)), ROWS):
            part = slice(start, start + ROWS)
            rows = Rows(self.rows.table.slice(start, ROWS), self.rows.as_of_us[part])
            columns: dict[tuple[str, str], Any] = {}
            for name, view in self.views.items():
                entity = velocity_entity(view)
                if name in hidden:
                    continue
                if entity is None:
                    found = views[name].join(rows, self.as_known)
                else:
                    found = self._states(log, view, entity, rows)
                columns |= {(name, feature): array for feature, array in found.items()}
            for name, on_demand in self.on_demand.items():
                features = self._features(name)
                if velocity is not None and VELOCITY_TAG in on_demand.tags:
                    amount = integers(rows.table["amount_minor"])
                    found = velocity_columns_of(velocity.values(part), amount, features)
                elif CONTEXT_TAG in on_demand.tags:
                    found = context_arrays(_inputs(on_demand, columns, rows.table), features)
                else:
                    found = _run(on_demand, _inputs(on_demand, columns, rows.table), features)
                columns |= {(name, feature): array for feature, array in found.items()}
            yield self._assemble(rows, columns, hidden)

    def _features(self, name: str) -> list[str]:
        return [feature for owner, feature in self.refs if owner == name]

    def _check_names(self, hidden: set[str]) -> None:
        """Refuse a column of the rows that would vanish behind a feature of its name."""
        if not self.full_names:
            asked = {feature for owner, feature in self.refs if owner not in hidden}
            both = sorted(asked & set(self.rows.table.column_names))
            if both:
                raise InvalidEntityFrame(
                    f"column {both[0]!r} of the rows has the name of a feature asked for; rename it, or ask with "
                    "full_feature_names=True"
                )

    def _check_values(self) -> None:
        """Refuse a request value that is no number where its on-demand view declares one."""
        for view in self.on_demand.values():
            for source in view.source_request_sources.values():
                for field in source.schema:
                    kind = from_feast_to_pyarrow_type(field.dtype)
                    number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
                    if number and field.name in self.rows.table.column_names:
                        require_numbers(self.rows.table, field.name, kind)

    def _assemble(self, rows: Rows, columns: Mapping[tuple[str, str], Any], hidden: set[str]) -> Any:
        arrays = dict(zip(rows.table.column_names, rows.table.columns, strict=True))
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

    def _velocity(self) -> VelocitySlabs | None:
        """Return what evaluates the windows; null when none are asked for."""
        hidden = self._replaced_views()
        if not hidden:
            return None
        return VelocitySlabs(lake_of(self.locations[min(hidden)]), self._asked(), self.log_rows)

    def _whole_log(self) -> Log | None:
        """Return the log from its beginning, which a state needs; null when no state is asked for."""
        stated = [name for name, view in self.views.items() if velocity_entity(view) is not None]
        if not stated:
            return None
        times = self.rows.as_of_us // 1000
        last = int(times.max()) if len(times) else 0
        lake = lake_of(self.locations[stated[0]])
        log_days(lake, last_ms=last)  # refuses a log with a gap
        return load_log(lake, last_ms=last, arrivals=self.as_known is not None)

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
        require_columns(table, tuple(JOIN_KEYS.values()), nulls=False)
        require_columns(table, ("amount_minor",), nulls=False, advice="every payment has an amount, in minor units")
        return Asked(table, as_of_ms, integers(table["amount_minor"]), self._newest_arrivals(self.rows))

    def _newest_arrivals(self, rows: Rows) -> IntArray | None:
        return None if self.as_known is None else self.as_known.newest_arrival_us(rows.as_of_us)

    def _states(self, log: Log | None, view: FeatureView, entity: Entity, rows: Rows) -> dict[str, Any]:
        if log is None:
            raise UnknownFeature(f"view {view.name!r} has no transaction log")
        key = log.numbers(entity, rows.table[join_keys(view)[0][1]])
        as_of_ms, until = rows.as_of_us // 1000, self._newest_arrivals(rows)
        if until is None:
            state, revision = states_at(log.history(entity), key, as_of_ms)
        else:
            state, revision = known_states_at(log.known_history(entity), key, as_of_ms, until)
        both = {f"{entity}_state": state, f"{entity}_revision": revision}
        return {feature: both[feature] for feature in self._features(view_name(view)) if feature in both}


def _inputs(view: OnDemandFeatureView, columns: Mapping[tuple[str, str], Any], rows: Any) -> Any:
    """Return the declared inputs of an on-demand view and nothing else, an Arrow table."""
    stored = {
        feature.name: columns[view_name(source), feature.name]
        for source in view.source_feature_view_projections.values()
        for feature in source.features
    }
    wanted = [field.name for source in view.source_request_sources.values() for field in source.schema]
    require_columns(rows, wanted)
    return pa.table(stored | {name: rows[name] for name in wanted})


def _run(view: OnDemandFeatureView, inputs: Any, features: Sequence[str]) -> dict[str, Any]:
    """Run an on-demand view by Feast's own code."""
    types = {field.name: from_feast_to_pyarrow_type(field.dtype) for field in view.features}
    if not inputs.num_rows:
        return {feature: pa.array([], types[feature]) for feature in features}
    made = view.transform_arrow(inputs)
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
