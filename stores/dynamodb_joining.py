"""States of a batch joined with what DynamoDB holds: :mod:`stores.joining` for items of a table."""

from collections.abc import Sequence
from typing import Final

from fraud.errors import StateConflict
from fraud.windows import Entity
from stores.dynamodb_layout import ID, VALUES, Item, item, state_features, swap_item
from stores.dynamodb_tables import Tables, Wanted
from stores.joining import ATTEMPTS, counted, join
from stores.layout import encode_value

_NOTHING: Final[Item] = {VALUES: {"M": {}}}


def join_items(tables: Tables, entity: Entity, table: str, items: Sequence[Item]) -> None:
    """Join those refused items of a batch whose revision is the greater one; leave the others, as most are, alone.

    Parameters
    ----------
    items
        One each of some entities, as they would have been put.

    Raises
    ------
    StateConflict
        Other writers changed one of them ``ATTEMPTS`` times over.
    StoreUnavailable
        The service did not answer.
    """
    held, number = state_features(entity)
    left = list(items)
    for _ in range(ATTEMPTS):
        found = tables.read([Wanted(table, [made[ID]["S"] for made in left], (held, number))])
        puts, again = [], []
        for made in left:
            key = made[ID]["S"]
            stored = found.get((table, key), _NOTHING).get(VALUES, {"M": {}})["M"]
            batch = counted(*(made[VALUES]["M"][name]["B"] for name in (held, number)))
            read = bytes(stored[number]["B"]) if number in stored else b""
            now = counted(bytes(stored[held]["B"]) if held in stored else b"", read)
            joined = None if batch.revision <= now.revision else join(entity, batch, now)
            if joined is None:
                continue
            values = {held: encode_value(joined.state), number: encode_value(joined.revision)}
            whole = item(key, values, joined.newest_ms * 1000, joined.revision)
            puts.append(swap_item(table, whole, number, read))
            again.append(made)
        left = [made for made, written in zip(again, tables.put(puts), strict=True) if not written]
        if not left:
            return
    raise StateConflict(f"other writers changed {len(left)} states {ATTEMPTS} times over")
