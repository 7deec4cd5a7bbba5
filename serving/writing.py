"""Write-through: the scorer's own transaction in the states it has just read, ahead of the stream.

Off the latency path, in a thread with a connection of its own. A state is written only over the revision that was read;
where another writer came first the change is dropped, because the stream brings it anyway. When it does, it finds the
transaction there and changes nothing, but for a decline that only the stream knows of. Merchants are left to the
stream: a busy one would lose most of these races. What was written is told in ``written/part-*.jsonl``, a line a change
like those of the stream's own log, after the store has taken it.
"""

import hashlib
import os
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import hiredis
import msgspec

from fraud import velocity
from fraud.errors import InvalidState, StoreUnavailable
from fraud.transaction import Transaction
from fraud.windows import JOIN_KEYS, Entity
from serving.decoding import decode_revision
from serving.logs import Seldom, place_of
from serving.metrics import Metrics
from serving.online import Online
from stores.access import Access
from stores.cluster_wires import open_wires
from stores.guards import SWAP_STATE, StateView, state_fields, state_view
from stores.layout import entity_key
from stores.wire import pack

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


class _Change(NamedTuple):
    """A change, its key in the store and the command that makes it."""

    told: Written
    name: bytes
    command: bytes


class WriteThrough:
    """Writes states; :meth:`offer` never waits.

    Parameters
    ----------
    access
        Redis, with a credential that may write.
    project
        Feast project, the end of every key.
    directory
        Where changes are told; null for nowhere.
    lifetime_s
        After which Redis forgets an entity that nobody writes; 0 for never.
    """

    def __init__(
        self, access: Access, *, project: str, metrics: Metrics, directory: Path | None, lifetime_s: int = 0
    ) -> None:
        self._project = project
        self._lifetime = b"%d" % lifetime_s
        self._metrics = metrics
        self._directory = directory
        self._queue: queue.SimpleQueue[Seen | None] = queue.SimpleQueue()
        self._views: dict[Entity, StateView] = {entity: state_view(entity) for entity in _WRITTEN}
        self._thread = threading.Thread(target=self._run, name="write-through", daemon=True)
        self._seldom = Seldom()
        self._wires = open_wires(access, TIMEOUT_S)
        self._ready = False
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
        self._wires.close()
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
                self._seldom.warn("write_through_failed", error=type(error).__name__, at=place_of(error))

    def write(self, batch: Sequence[Seen]) -> None:
        """Apply each transaction to its card, device and network address, each over what was read."""
        if self.overflowed:
            lost, self.overflowed = self.overflowed, 0
            self._metrics.write_through.add(("overflowed",), lost)
        made = [self._change(entity, transaction, online) for transaction, online in batch for entity in _WRITTEN]
        changes = [change for change in made if change is not None]
        if not changes:
            return
        try:
            replies = self._round_trip(changes)
        except StoreUnavailable as error:
            self._pause()
            self._metrics.write_through.add(("failed",), len(changes))
            self._seldom.warn("write_through_failed", error=str(error))
            return
        self._tell([change.told for change, reply in zip(changes, replies, strict=True) if self._taken(reply)])

    def _taken(self, reply: object) -> bool:
        if isinstance(reply, hiredis.ReplyError):  # a store that lost the script, or a credential that may not write
            self._metrics.write_through.add(("failed",))
            self._seldom.warn("write_through_refused", said=str(reply).split(" ", 1)[0][:20])  # the rest may name a key
            self._pause()
            return False
        self._metrics.write_through.add(("written" if reply == 1 else "conflict",))
        return reply == 1

    def _change(self, entity: Entity, transaction: Transaction, online: Online) -> _Change | None:
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
        name = entity_key(JOIN_KEYS[entity], key, self._project)
        command = pack((b"EVALSHA", _SWAP_SHA, b"1", name, view.revision, stored, self._lifetime, *fields))
        told = Written(entity, key, revision, transaction.transaction_id, "transaction", transaction.event_time_ms)
        return _Change(told, name, command)

    def _round_trip(self, changes: Sequence[_Change]) -> list[object]:
        if time.monotonic() < self._retry_at:
            raise StoreUnavailable("the online store was away a moment ago")
        if not self._ready:
            self._wires.tell_all(pack((b"SCRIPT", b"LOAD", SWAP_STATE.encode())))
            self._ready = True
        return self._wires.ask([change.name for change in changes], [(change.command,) for change in changes])

    def _pause(self) -> None:
        """Write nothing for a moment, then load the script again: the store may be another one."""
        self._ready = False
        self._retry_at = time.monotonic() + PAUSE_S

    def _tell(self, changes: Sequence[Written]) -> None:
        if self._file < 0 or not changes:
            return
        try:
            os.write(self._file, b"".join([msgspec.json.encode(change) + b"\n" for change in changes]))
        except OSError as error:
            self._metrics.write_through.add(("untold",), len(changes))
            self._seldom.warn("written_changes_lost", reason=error.strerror or type(error).__name__)
