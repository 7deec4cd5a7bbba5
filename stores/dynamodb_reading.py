"""A compiled read plan as one ``BatchGetItem`` over all its tables, and the response as readings.

The DynamoDB twin of :class:`stores.plan.CompiledReader`: same plan, same readings, neither Feast nor boto3, no network.
What it makes and takes is the body of the service's JSON protocol, with values in base64; what a low-level client
hands over, with values in bytes, is taken too.
"""

from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fraud.errors import StoreUnavailable
from stores.dynamodb_layout import (
    TIME,
    VALUES,
    Item,
    decode_time,
    hashed_id,
    keys_and_attributes,
    table_name,
)
from stores.layout import decode_any, encode_timestamp
from stores.plan import PlannedEntity, Reading, ReadPlan

RequestItems = dict[str, Any]
"""Table to what is asked of it: the argument ``RequestItems`` of ``BatchGetItem``."""

_NOTHING: Final[Mapping[str, Any]] = {}


class TableReader:
    """Turns join keys into a request and its responses into readings; touches no network itself.

    Parameters
    ----------
    plan
        What one request reads: at most 100 views.
    consistent
        Whether a write that was acknowledged before is always seen. Bursts are where fraud is and where a stale state
        misleads, so it is; without, a read costs half.
    """

    def __init__(self, plan: ReadPlan, *, consistent: bool = True) -> None:
        self.plan = plan
        self._asked = [_asked(plan.project, planned, consistent=consistent) for planned in plan.entities]

    def request(self, keys: Mapping[str, Any]) -> RequestItems:
        """Return the request; ``keys`` maps join key to value, empty for none (read as never seen)."""
        out: RequestItems = {}
        for planned, asked in zip(self.plan.entities, self._asked, strict=True):
            key = hashed_id(planned.key(keys, ""))
            for table, rest in asked.items():
                out[table] = {"Keys": [{"entity_id": {"S": key}}], **rest}
        return out

    def readings(self, responses: Sequence[Mapping[str, Any]]) -> dict[str, Reading]:
        """Return the reading of each entity.

        Parameters
        ----------
        responses
            The response to :meth:`request`, then those to what :func:`unanswered` found left in each.

        Raises
        ------
        StoreUnavailable
            Tables are still unanswered. To read them as never seen would be a silent null.
        """
        found = self._found(responses)
        return {planned.entity: self._reading(planned, found) for planned in self.plan.entities}

    def replies(self, responses: Sequence[Mapping[str, Any]]) -> list[list[bytes | None]]:
        """Return what Redis would answer to :meth:`stores.plan.CompiledReader.commands`; raises as :meth:`readings`."""
        found = self._found(responses)
        return [self._reply(planned, found) for planned in self.plan.entities]

    def _found(self, responses: Sequence[Mapping[str, Any]]) -> dict[str, Item]:
        left = unanswered(responses[-1]) if responses else self._asked
        if left:
            raise StoreUnavailable(f"the online store left {len(left)} of its tables unanswered")
        return {table: items[0] for response in responses for table, items in response["Responses"].items() if items}

    def _reply(self, planned: PlannedEntity, found: Mapping[str, Item]) -> list[bytes | None]:
        items = {view: found.get(table_name(self.plan.project, view), _NOTHING) for view in planned.views}
        held = {view: got.get(VALUES, {"M": _NOTHING})["M"] for view, got in items.items()}
        values = [_serialised(held[field.view].get(field.feature)) for field in planned.fields]
        times = (got.get(TIME) for got in items.values())
        return [*values, *(None if time is None else encode_timestamp(decode_time(time["S"])) for time in times)]

    def _reading(self, planned: PlannedEntity, found: Mapping[str, Item]) -> Reading:
        items = {view: found.get(table_name(self.plan.project, view), _NOTHING) for view in planned.views}
        held = {view: got.get(VALUES, {"M": _NOTHING})["M"] for view, got in items.items()}
        values = {
            field.feature: decode_any(_serialised(held[field.view].get(field.feature))) for field in planned.fields
        }
        times = {view: decode_time(got[TIME]["S"]) if TIME in got else None for view, got in items.items()}
        return Reading(values, times)


def unanswered(response: Mapping[str, Any]) -> RequestItems:
    """Return what has to be asked again: the service answers part of a request when it is busy or the rest is large."""
    return dict(response.get("UnprocessedKeys") or {})


def _asked(project: str, planned: PlannedEntity, *, consistent: bool) -> dict[str, dict[str, Any]]:
    """Return what is asked of each table of an entity, but for the key."""
    out = {}
    for view in planned.views:
        features = [field.feature for field in planned.fields if field.view == view]
        asked = keys_and_attributes((), features, consistent=consistent)
        del asked["Keys"]
        out[table_name(project, view)] = asked
    return out


def _serialised(attribute: Mapping[str, Any] | None) -> bytes | None:
    if attribute is None:
        return None
    data = attribute["B"]
    return b64decode(data) if isinstance(data, str) else bytes(data)
