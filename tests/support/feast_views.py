"""Feature views as Feast would have inferred them, without a registry."""

from typing import Any


def view_of(schema: dict[str, Any], keys: dict[str, Any] | None = None) -> Any:
    """A view named ``v``, of cards unless ``keys`` says otherwise (join key to Feast type)."""
    from feast import Entity, FeatureView, Field, FileSource
    from feast.types import String

    types = keys or {"card_id": String}
    view = FeatureView(
        name="v",
        entities=[
            Entity(name=name.removesuffix("_id"), join_keys=[name], value_type=dtype.to_value_type())
            for name, dtype in types.items()
        ],
        schema=[Field(name=name, dtype=dtype) for name, dtype in schema.items()],
        source=FileSource(path="nowhere.parquet", timestamp_field="event_timestamp"),
    )
    view.entity_columns = [Field(name=name, dtype=dtype) for name, dtype in types.items()]
    return view
