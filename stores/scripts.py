"""Guarded writes of many rows through redis-py's clients, on a single node or a cluster.

On a single node one script takes many rows. A cluster takes no script over keys of several slots, so there each row has
a script of its own; redis-py refuses those in a cluster's pipelines, so rows are sorted by node and each node gets a
pipeline of its own; a row whose key is on the move follows it alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis import RedisCluster
from redis.exceptions import AskError, MovedError

from stores.guards import raise_arguments

_ELSEWHERE: Final = (MovedError, AskError)

ROWS_A_SCRIPT: Final = 64
"""Rows of one script: Redis does nothing else meanwhile, for some tenths of a millisecond."""

SCRIPTS_A_TURN: Final = 32
"""Scripts sent before their answers are waited for."""


@dataclass(frozen=True)
class GuardedRows:
    """Rows to write.

    Parameters
    ----------
    fields
        Hash fields of every row; the first ones guard it.
    keys
        Entity of each row, as Redis has it.
    values
        The serialised values of each row, in the order of ``fields``.
    """

    fields: tuple[bytes, ...]
    keys: Sequence[bytes]
    values: Sequence[Sequence[bytes]]


def write_rows(client: Any, script: str, rows: GuardedRows, lifetime_s: int) -> list[int]:
    """Write rows by a script of :mod:`stores.guards`, in order, and renew the lifetime of those that were taken.

    Returns the places of the rows that ``RAISE_STATE`` left out because what is stored is newer.

    Parameters
    ----------
    client
        redis-py's, of a node or a cluster.
    script
        ``RAISE_STATE`` or ``RAISE_TIME``.
    lifetime_s
        After which Redis forgets an entity; 0 for never.
    """
    if not isinstance(client, RedisCluster):
        return _write_many(client, script, rows, lifetime_s)
    cluster: Any = client  # redis-py's types know little of what it can do
    nodes: dict[Any, list[int]] = {}
    for place, key in enumerate(rows.keys):
        nodes.setdefault(cluster.get_node_from_key(key), []).append(place)
    moved: list[int] = []
    newer: list[int] = []
    for node, places in nodes.items():
        left = _write_one_by_one(cluster.get_redis_connection(node), script, rows, places, lifetime_s)
        moved += left.moved
        newer += left.newer
    if moved:
        cluster.nodes_manager.initialize()
    for place in moved:
        arguments = raise_arguments(rows.fields, [rows.values[place]], lifetime_s)
        if cluster.execute_command("EVAL", script, 1, rows.keys[place], *arguments):
            newer.append(place)
    return newer


@dataclass(frozen=True)
class _Left:
    """Rows that were not written: their key is elsewhere, or what is stored is newer."""

    moved: list[int]
    newer: list[int]


def _write_many(client: Any, script: str, rows: GuardedRows, lifetime_s: int) -> list[int]:
    """Write to one node, many rows by each script; return the rows for which what is stored is newer."""
    sha = client.script_load(script)
    newer: list[int] = []
    turn = ROWS_A_SCRIPT * SCRIPTS_A_TURN
    for first in range(0, len(rows.keys), turn):
        with client.pipeline(transaction=False) as pipe:
            for start in range(first, min(first + turn, len(rows.keys)), ROWS_A_SCRIPT):
                keys = rows.keys[start : start + ROWS_A_SCRIPT]
                values = rows.values[start : start + ROWS_A_SCRIPT]
                pipe.evalsha(sha, len(keys), *keys, *raise_arguments(rows.fields, values, lifetime_s))
            answers = pipe.execute()
        for place, answer in enumerate(answers):
            newer += [first + place * ROWS_A_SCRIPT + number - 1 for number in answer]
    return newer


def _write_one_by_one(client: Any, script: str, rows: GuardedRows, places: Sequence[int], lifetime_s: int) -> _Left:
    """Write some rows to one node of a cluster."""
    sha = client.script_load(script)
    with client.pipeline(transaction=False) as pipe:
        for place in places:
            arguments = raise_arguments(rows.fields, [rows.values[place]], lifetime_s)
            pipe.evalsha(sha, 1, rows.keys[place], *arguments)
        results = pipe.execute(raise_on_error=False)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, _ELSEWHERE):
            raise result
    answers = list(zip(places, results, strict=True))
    moved = [place for place, result in answers if isinstance(result, _ELSEWHERE)]
    return _Left(moved, [place for place, result in answers if place not in moved and result])
