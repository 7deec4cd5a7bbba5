"""Connections to a Redis cluster that threads share: each command goes to the node of its key, all nodes at once.

The map of slots is asked for at the first use, and again when a node is lost. A key that has moved is followed; what
was done for one that is moving is done on its new node.
"""

import threading
from collections.abc import Mapping, Sequence

from fraud.errors import StoreUnavailable
from stores.access import Access
from stores.slots import ASKING, HOPS, MAP_COMMAND, Address, read_map, read_moved, slot_of
from stores.wire import Parts, Reply, Wire, Wires, pack, unavailable


class ClusterWires:
    """The cluster's twin of :class:`stores.wire.Wires`."""

    def __init__(self, access: Access, timeout_s: float) -> None:
        self._access = access
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._nodes: dict[Address, Wires] = {}
        self._map: dict[int, Address] = {}

    def ask(self, keys: Sequence[bytes], commands: Sequence[Parts]) -> list[Reply]:
        """Send packed commands to the nodes of their keys and return their replies, in order.

        Raises
        ------
        StoreUnavailable
            A node cannot be reached, did not answer in time, or serves a key no more and names no other. Other nodes
            may have done their part.
        """
        try:
            return self._follow([slot_of(key) for key in keys], commands)
        except OSError as error:
            self._forget()
            raise unavailable(error) from None

    def tell_all(self, command: bytes) -> None:
        """Send a packed command to every node and wait until it is done; raises as :meth:`ask`."""
        try:
            nodes = sorted(set(self._known().values()))
        except OSError as error:
            raise unavailable(error) from None
        for address in nodes:
            self._node(address).tell_all(command)

    def close(self) -> None:
        """End the idle connections."""
        with self._lock:
            nodes, self._nodes, self._map = self._nodes, {}, {}
        for node in nodes.values():
            node.close()

    def _follow(self, slots: Sequence[int], commands: Sequence[Parts]) -> list[Reply]:
        replies: list[Reply] = [None] * len(commands)
        known = self._known()
        try:
            places: dict[Address, list[int]] = {}
            for index, slot in enumerate(slots):
                places.setdefault(known[slot], []).append(index)
        except KeyError:
            self._forget()
            raise StoreUnavailable("the online store serves only a part of its keys") from None
        asking = False
        for _ in range(HOPS):
            got = self._exchange(places, commands, asking=asking)
            places, asking, moved_for_good = {}, False, False
            for address, index, reply in got:
                replies[index] = reply
                moved = read_moved(reply, address)
                if moved is not None:
                    places.setdefault(moved.address, []).append(index)
                    moved_for_good |= moved.from_now_on
                    asking |= not moved.from_now_on
            if moved_for_good:
                self._forget()
            if not places:
                return replies
        raise StoreUnavailable(f"a key of the online store has moved {HOPS} times over")

    def _exchange(
        self, places: Mapping[Address, Sequence[int]], commands: Sequence[Parts], *, asking: bool
    ) -> list[tuple[Address, int, Reply]]:
        """Send every node its commands, then collect the replies; ``asking`` is for keys on the move."""
        wires: list[tuple[Address, Wire, Sequence[int]]] = []
        got: list[tuple[Address, int, Reply]] = []
        try:
            for address, indices in places.items():
                wires.append((address, self._node(address).take(), indices))
            before = (ASKING,) if asking else ()
            for _, wire, indices in wires:
                wire.send(b"".join([part for index in indices for part in (*before, *commands[index])]))
            for address, wire, indices in wires:
                answers = wire.receive(len(indices) * (1 + len(before)))
                answers = answers[1::2] if asking else answers
                got += [(address, index, reply) for index, reply in zip(indices, answers, strict=True)]
        except BaseException:
            for _, wire, _ in wires:
                wire.close()
            raise
        for address, wire, _ in wires:
            self._node(address).give(wire)
        return got

    def _node(self, address: Address) -> Wires:
        with self._lock:
            if address not in self._nodes:
                self._nodes[address] = Wires(self._access, self._timeout_s, address)
            return self._nodes[address]

    def _known(self) -> dict[int, Address]:
        """Return the map of slots, asked for from whichever node answers first when it is not known."""
        known = self._map
        if known:
            return known
        seed = Address(self._access.host, self._access.port)
        with self._lock:
            candidates = [seed, *(address for address in self._nodes if address != seed)]
        failure: OSError = ConnectionError("no node answered")
        for address in candidates:
            try:
                wire = self._node(address).take()
                wire.send(pack(MAP_COMMAND))
                (reply,) = wire.receive(1)
            except OSError as error:
                failure = error
                continue
            self._node(address).give(wire)
            try:
                known = read_map(reply, address)
            except ValueError as error:
                raise StoreUnavailable(f"{address}: {error}") from None
            self._map = known
            return known
        raise failure

    def _forget(self) -> None:
        """Have the map asked for again before the next use."""
        self._map = {}


def open_wires(access: Access, timeout_s: float) -> Wires | ClusterWires:
    """Return connections to what ``access`` leads to; nothing is reached before the first use."""
    return ClusterWires(access, timeout_s) if access.cluster else Wires(access, timeout_s)
