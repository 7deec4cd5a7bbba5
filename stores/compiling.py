"""From Feast's registry to the read plan of a feature service; the only place that knows both."""

from dataclasses import dataclass, field
from typing import Any, Final

from feast import FeatureService, FeatureStore, FeatureView, ValueType
from feast.errors import FeatureServiceNotFoundException
from feast.feature_view import DUMMY_ENTITY_NAME
from feast.feature_view_projection import FeatureViewProjection
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.on_demand_feature_view import OnDemandFeatureView

from fraud.errors import UnknownFeature
from stores.errors import UnsupportedRequest
from stores.layout import KeyKind
from stores.plan import PlannedEntity, PlannedField, PlannedKey, ReadPlan
from stores.tags import tagged_entity
from stores.view_join import source_of

_KINDS: Final[dict[ValueType, KeyKind]] = {
    ValueType.STRING: "string",
    ValueType.BYTES: "bytes",
    ValueType.INT32: "int32",
    ValueType.INT64: "int64",
}


@dataclass
class _Reads:
    """What is read of one entity, gathered view by view."""

    keys: tuple[PlannedKey, ...]
    fields: list[PlannedField] = field(default_factory=list)
    views: list[str] = field(default_factory=list)

    @property
    def told(self) -> tuple[PlannedKey, ...]:
        """The keys as a plan tells them: not at all when it is one of type string."""
        return () if len(self.keys) == 1 and self.keys[0].kind == "string" else self.keys


def compile_plan(feature_store: FeatureStore, service_name: str) -> ReadPlan:
    """Return what one request of a feature service reads: once made, neither Feast nor its registry is needed.

    The inputs of on-demand views are read, not their outputs. Of a velocity view the revision is read with the state,
    so that whoever read it can write it back guarded. Where the registry keeps versions apart, a projection's pinned
    version is read; without a pin Feast 0.67 reads the first, though it writes to the newest, and so does the plan.

    Parameters
    ----------
    feature_store
        With the definitions applied.
    service_name
        Such as ``fraud_score_v1``.

    Raises
    ------
    UnknownFeature
        There is no such service.
    UnsupportedRequest
        A view has no entity, or a join key of a type that Feast serialises no key of.
    """
    registry, project = feature_store.registry, feature_store.project
    versioned = feature_store.config.registry.enable_online_feature_view_versioning
    try:
        service: FeatureService = registry.get_feature_service(service_name, project)
    except FeatureServiceNotFoundException as error:
        raise UnknownFeature(f"no feature service {service_name!r} in project {project!r}; apply it first") from error
    reads: dict[str, _Reads] = {}
    features: list[str] = []
    for projection in service.feature_view_projections:
        view = registry.get_any_feature_view(projection.name, project)
        features += [item.name for item in projection.features]
        if isinstance(view, OnDemandFeatureView):
            for source in view.source_feature_view_projections.values():
                _gather(reads, _view_of(feature_store, source), source, versioned=versioned)
        else:
            _gather(reads, _view_of(feature_store, projection), projection, versioned=versioned)
    entities = tuple(
        PlannedEntity(name, found.keys[0].name, tuple(found.fields), tuple(found.views), found.told)
        for name, found in sorted(reads.items())
    )
    return ReadPlan(project, service_name, entities, tuple(features))


def _view_of(feature_store: FeatureStore, projection: FeatureViewProjection) -> FeatureView:
    """Return the view that a projection is of, in the version it names."""
    registry, project = feature_store.registry, feature_store.project
    view: Any = registry.get_feature_view(projection.name, project)
    if projection.version_tag is not None:
        view = registry.get_feature_view_by_version(projection.name, project, projection.version_tag)
    found: FeatureView = view.with_projection(projection)
    return found


def _gather(reads: dict[str, _Reads], view: FeatureView, projection: FeatureViewProjection, *, versioned: bool) -> None:
    stored = compute_versioned_name(view, versioned)
    found = reads.setdefault(",".join(view.entities), _Reads(_keys(view)))
    names = [item.name for item in projection.features]
    if tagged_entity(source_of(view).tags) is not None:
        names = [item.name for item in view.features]
    for name in names:
        planned = PlannedField(stored, name)
        if planned not in found.fields:
            found.fields.append(planned)
    if stored not in found.views:
        found.views.append(stored)


def _keys(view: FeatureView) -> tuple[PlannedKey, ...]:
    """Return a view's join keys in the order in which Feast serialises them."""
    keys = []
    for column in sorted(view.entity_columns, key=lambda column: column.name):
        kind = _KINDS.get(column.dtype.to_value_type())
        if kind is None:
            raise UnsupportedRequest(f"view {view.name} has the join key {column.name} of type {column.dtype}")
        keys.append(PlannedKey(column.name, kind))
    if not keys or DUMMY_ENTITY_NAME in view.entities:
        raise UnsupportedRequest(f"view {view.name} has no entity; a plan reads by key")
    return tuple(keys)
