"""From Feast's registry to the read plan of a feature service; the only place that knows both."""

from dataclasses import dataclass, field

from feast import FeatureService, FeatureStore, FeatureView
from feast.errors import FeatureServiceNotFoundException
from feast.feature_view_projection import FeatureViewProjection
from feast.on_demand_feature_view import OnDemandFeatureView

from fraud.errors import UnknownFeature
from stores.errors import UnsupportedRequest
from stores.plan import PlannedEntity, PlannedField, ReadPlan
from stores.tags import tagged_entity
from stores.view_join import source_of


@dataclass
class _Reads:
    """What is read of one entity, gathered view by view."""

    join_key: str
    fields: list[PlannedField] = field(default_factory=list)
    views: list[str] = field(default_factory=list)


def compile_plan(feature_store: FeatureStore, service_name: str) -> ReadPlan:
    """Return what one request of a feature service reads: once made, neither Feast nor its registry is needed.

    The inputs of on-demand views are read, not their outputs. Of a velocity view the revision is read with the state,
    so that whoever read it can write it back guarded.

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
        A view has no entity with exactly one join key.
    """
    registry, project = feature_store.registry, feature_store.project
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
                _gather(reads, registry.get_feature_view(source.name, project), source)
        else:
            _gather(reads, registry.get_feature_view(projection.name, project), projection)
    entities = tuple(
        PlannedEntity(name, found.join_key, tuple(found.fields), tuple(found.views))
        for name, found in sorted(reads.items())
    )
    return ReadPlan(project, service_name, entities, tuple(features))


def _gather(reads: dict[str, _Reads], view: FeatureView, projection: FeatureViewProjection) -> None:
    if len(view.entities) != 1 or len(view.entity_columns) != 1:
        raise UnsupportedRequest(f"view {view.name} has entities {view.entities}; a plan reads views of exactly one")
    found = reads.setdefault(view.entities[0], _Reads(view.entity_columns[0].name))
    names = [item.name for item in projection.features]
    if tagged_entity(source_of(view).tags) is not None:
        names = [item.name for item in view.features]
    for name in names:
        planned = PlannedField(view.name, name)
        if planned not in found.fields:
            found.fields.append(planned)
    if view.name not in found.views:
        found.views.append(view.name)
