"""One guarded write per row through redis-py's clients, on a single node or a cluster.

redis-py refuses scripts in a cluster's pipelines, though each of ours is about one key. So rows are sorted by node and
each node gets a pipeline of its own; a row whose key is on the move follows it alone.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from redis import RedisCluster
from redis.exceptions import AskError, MovedError

_ELSEWHERE: Final = (MovedError, AskError)


class Write(NamedTuple):
    """The key of a row and the arguments of its script."""

    key: bytes
    arguments: list[bytes]


def run_script(client: Any, script: str, writes: Sequence[Write], lifetime_s: int | None) -> None:
    """Run a script of :mod:`stores.guards` for each row, and renew the lifetime of rows that were taken.

    Parameters
    ----------
    client
        redis-py's, of a node or a cluster.
    lifetime_s
        After which Redis forgets an entity; null for never.
    """
    if not isinstance(client, RedisCluster):
        _run(client, script, writes, lifetime_s)
        return
    cluster: Any = client  # redis-py's types know little of what it can do
    nodes: dict[Any, list[Write]] = {}
    for write in writes:
        nodes.setdefault(cluster.get_node_from_key(write.key), []).append(write)
    moved: list[Write] = []
    for node, some in nodes.items():
        moved += _run(cluster.get_redis_connection(node), script, some, lifetime_s)
    if moved:
        cluster.nodes_manager.initialize()
    for key, arguments in moved:
        taken = cluster.execute_command("EVAL", script, 1, key, *arguments)
        if taken and lifetime_s:
            cluster.expire(key, lifetime_s)


def _run(client: Any, script: str, writes: Sequence[Write], lifetime_s: int | None) -> list[Write]:
    """Run the script on one node; return the rows whose key is elsewhere."""
    sha = client.script_load(script)
    with client.pipeline(transaction=False) as pipe:
        for key, arguments in writes:
            pipe.evalsha(sha, 1, key, *arguments)
        results = pipe.execute(raise_on_error=False)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, _ELSEWHERE):
            raise result
    if lifetime_s:
        with client.pipeline(transaction=False) as pipe:
            for (key, _), result in zip(writes, results, strict=True):
                if result == 1:
                    pipe.expire(key, lifetime_s)
            pipe.execute()
    return [write for write, result in zip(writes, results, strict=True) if isinstance(result, _ELSEWHERE)]
