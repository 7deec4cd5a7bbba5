"""The tags by which the stores recognise what a view or a source is."""

from collections.abc import Mapping
from typing import Final

from fraud.windows import ENTITIES, Entity

VELOCITY_TAG: Final = "velocity"
"""A batch source with this tag is the transaction log, read for the entity it names (``card``, ``device``,
``merchant``). An on-demand view with it (``windows``) is answered from that log."""

CONTEXT_TAG: Final = "context"
"""An on-demand view with this tag (``columns``) is :func:`fraud.features.context_columns`; the offline store computes
the same values column by column."""

PIT_TAG: Final = "pit"
"""A view tagged ``pit: strict`` shows a row only to questions later than it; else a row of the same time is seen."""


def tagged_entity(tags: Mapping[str, str]) -> Entity | None:
    """Return the entity that a batch source's tags name; null when they name none.

    Examples
    --------
    >>> tagged_entity({"velocity": "card"}), tagged_entity({})
    ('card', None)
    """
    for entity in ENTITIES:
        if tags.get(VELOCITY_TAG) == entity:
            return entity
    return None
