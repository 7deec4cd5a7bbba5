"""Write-through: the scorer's own transaction in the states it has just read, ahead of the stream.

Off the latency path, in a thread with a connection of its own. A state is written only over the revision that was read;
where another writer came first the change is dropped, because the stream brings it anyway. When it does, it finds the
transaction there and changes nothing, but for a decline that only the stream knows of. Merchants are left to the
stream: a busy one would lose most of these races. What was written is told in ``written/part-*.jsonl``, a line a change
like those of the stream's own log, after the store has taken it.
"""

import contextlib
import hashlib
import os
import queue
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import hiredis
import msgspec

from fraud import velocity
from fraud.errors import InvalidState, StoreUnavailable
from fraud.settings import Settings
from fraud.transaction import Transaction
from fraud.windows import JOIN_KEYS, Entity
from serving.decoding import decode_revision
from serving.logs import Seldom
from serving.metrics import Metrics
from serving.online import Online
from serving.store import pack
from stores.guards import SWAP_STATE, StateView, state_fields, state_view
from stores.layout import entity_key

QUEUE_LENGTH: Final = 4096
BATCH: Final = 64
TIMEOUT_S: Final = 1.0
PAUSE_S: Final = 0.5
"""Between two tries to reach a store that is away; what comes meanwhile is dropped."""

_WRITTEN: Final[tuple[Entity, ...]] = ("card", "device", "ip")
_SWAP_SHA: Final = hashlib.sha1(SWAP_STATE.encode(), usedforsecurity=False).hexdigest().encode()


class Written(msgspec.Struct, frozen=True):
    """One change that the store has taken; named as in the stream's log of changes."""

    entity: Entity
    key: str
    revision_after: int
    transaction_id: str
    kind: str
    event_time_ms: int


class Seen(NamedTuple):
    """A transaction and what was read for it."""

    transaction: Transaction
    online: Online


class WriteThrough:
    """Writes states; :meth:`offer` never waits.

    Parameters
    ----------
    directory
        Where changes are told; null for nowhere.
    """

    def __init__(self, settings: Settings, *, metrics: Metrics, directory: Path | None) -> None:
        self._settings = settings
        self._metrics = metrics
        self._directory = directory
        self._queue: queue.SimpleQueue[Seen | None] = queue.SimpleQueue()
        self._views: dict[Entity, StateView] = {entity: state_view(entity) for entity in _WRITTEN}
        self._thread = threading.Thread(target=self._run, name="write-through", daemon=True)
        self._seldom = Seldom()
        self._socket: socket.socket | None = None
        self._reader = hiredis.Reader()
        self._retry_at = 0.0
        self._file = -1
        self.overflowed = 0

    def start(self) -> None:
        """Start writing.

        Raises
        ------
        OSError
            The changes cannot be told where they should be.
        """
        if self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True)
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            path = self._directory / f"part-{stamp}-{os.getpid()}.jsonl"
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._thread.start()

    def offer(self, transaction: Transaction, online: Online) -> None:
        """Take a transaction and what was read for it, or count it dropped when the queue is full."""
        if self._queue.qsize() >= QUEUE_LENGTH:
            self.overflowed += 1
            return
        self._queue.put(Seen(transaction, online))

    def close(self) -> None:
        """Write what is left and stop."""
        self._queue.put(None)
        self._thread.join()
        self._disconnect()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _run(self) -> None:
        open_ended = True
        while open_ended:
            batch = [self._queue.get()]
            while len(batch) < BATCH:
                try:
                    batch.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            open_ended = None not in batch
            try:
                self.write([seen for seen in batch if seen is not None])
            except Exception as error:  # noqa: BLE001  # the outermost loop of this thread: it must not end
                self._seldom.warn("write_through_failed", error=type(error).__name__)

    def write(self, batch: Sequence[Seen]) -> None:
        """Apply each transaction to its card, device and network address, each over what was read."""
        if self.overflowed:
            lost, self.overflowed = self.overflowed, 0
            self._metrics.write_through.add(("overflowed",), lost)
        changes, commands = [], []
        for transaction, online in batch:
            for entity in _WRITTEN:
                made = self._change(entity, transaction, online)
                if made is not None:
                    changes.append(made[0])
                    commands.append(made[1])
        if not commands:
            return
        try:
            replies = self._round_trip(commands)
        except (OSError, StoreUnavailable, hiredis.ProtocolError) as error:
            self._disconnect()
            self._retry_at = time.monotonic() + PAUSE_S
            self._metrics.write_through.add(("failed",), len(commands))
            self._seldom.warn("write_through_failed", error=type(error).__name__)
            return
        self._tell([change for change, reply in zip(changes, replies, strict=True) if self._taken(reply)])

    def _taken(self, reply: object) -> bool:
        if isinstance(reply, hiredis.ReplyError):  # a store that lost the script, or a credential that may not write
            self._metrics.write_through.add(("failed",))
            self._seldom.warn("write_through_refused", said=str(reply)[:40])
            self._retry_at = time.monotonic() + PAUSE_S
            self._disconnect()
            return False
        self._metrics.write_through.add(("written" if reply == 1 else "conflict",))
        return reply == 1

    def _change(self, entity: Entity, transaction: Transaction, online: Online) -> tuple[Written, bytes] | None:
        key = velocity.entity_key(entity, transaction)
        stored = online.stored_revisions.get(entity)
        if key is None or stored is None or entity in online.unread:
            return None
        try:
            change = velocity.transaction_change(entity, transaction)
            state, changed = velocity.update(entity, online.states[entity], change)
        except InvalidState:
            return None
        if not changed:
            self._metrics.write_through.add(("repeat",))
            return None
        view, revision = self._views[entity], decode_revision(stored) + changed
        fields = state_fields(view, state, revision, velocity.newest_time_ms(entity, state))
        name = entity_key(JOIN_KEYS[entity], key, self._settings.project)
        command = pack((b"EVALSHA", _SWAP_SHA, b"1", name, view.revision, stored, *fields))
        told = Written(entity, key, revision, transaction.transaction_id, "transaction", transaction.event_time_ms)
        return told, command

    def _round_trip(self, commands: Sequence[bytes]) -> list[object]:
        connection = self._socket or self._connect()
        connection.sendall(b"".join(commands))
        return self._replies(connection, len(commands))

    def _replies(self, connection: socket.socket, wanted: int) -> list[object]:
        replies: list[object] = []
        while len(replies) < wanted:
            data = connection.recv(1 << 16)
            if not data:
                raise StoreUnavailable("the online store closed the connection")
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                replies.append(reply)
        return replies

    def _connect(self) -> socket.socket:
        if time.monotonic() < self._retry_at:
            raise StoreUnavailable("the online store was away a moment ago")
        settings = self._settings
        connection = socket.create_connection((settings.redis_host, settings.redis_port), TIMEOUT_S)
        self._socket, self._reader = connection, hiredis.Reader()
        opening = [pack((b"SCRIPT", b"LOAD", SWAP_STATE.encode()))]
        if settings.redis_password.value:
            opening.insert(0, pack((b"AUTH", settings.redis_password.value.encode())))
        connection.sendall(b"".join(opening))
        refused = [r for r in self._replies(connection, len(opening)) if isinstance(r, hiredis.ReplyError)]
        if refused:
            raise StoreUnavailable(f"the online store lets us not write ({str(refused[0])[:40]})")
        return connection

    def _disconnect(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    def _tell(self, changes: Sequence[Written]) -> None:
        if self._file < 0 or not changes:
            return
        try:
            os.write(self._file, b"".join([msgspec.json.encode(change) + b"\n" for change in changes]))
        except OSError as error:
            self._metrics.write_through.add(("untold",), len(changes))
            self._seldom.warn("written_changes_lost", reason=error.strerror or type(error).__name__)
