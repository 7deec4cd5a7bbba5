"""A plain connection to Redis: commands out in one write, replies back in order.

redis-py's pipeline spends more on a command than the server does. Here the caller has packed the bytes already
(:mod:`streaming.commands`), and a reply costs one call into hiredis. It waits as long as it was told to and never tries
again by itself: what an outage means is decided by the worker.
"""

import select
import socket
import threading
import weakref
from collections.abc import Mapping
from typing import Any, Final, cast

import hiredis

from fraud.errors import StoreUnavailable

Reply = Any
"""Bytes, a list of bytes and nulls, a number, or a ``hiredis.ReplyError`` in the place of one."""

CHUNK: Final = 1 << 18
"""Bytes read at a time."""


class Wire:
    """One connection, for one thread at a time.

    Parameters
    ----------
    options
        ``host``, ``port``, ``socket_timeout``, ``socket_connect_timeout``, ``username``, ``password`` and ``db`` of
        redis-py's connections; the timeouts in seconds.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._reader = hiredis.Reader()
        self._buffer = bytearray(CHUNK)
        address = str(options["host"]), int(options["port"])
        self._socket = socket.create_connection(address, options.get("socket_connect_timeout"))
        weakref.finalize(self, self._socket.close)
        self._socket.settimeout(options.get("socket_timeout"))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._greet(options)
        except BaseException:
            self.close()
            raise

    def _greet(self, options: Mapping[str, Any]) -> None:
        commands: list[tuple[str, ...]] = []
        if options.get("password"):
            user = (str(options["username"]),) if options.get("username") else ()
            commands.append(("AUTH", *user, str(options["password"])))
        if options.get("db"):
            commands.append(("SELECT", str(options["db"])))
        for reply in self.ask(b"".join(map(pack, commands)), len(commands)):
            if isinstance(reply, hiredis.ReplyError):
                raise PermissionError("the store refused the password or the database")

    def ask(self, commands: bytes, count: int) -> list[Reply]:
        """Send ``count`` packed commands and return their replies, in order.

        Raises
        ------
        OSError
            The connection is of no more use: lost, too slow, or the other side speaks no Redis.
        """
        self._socket.sendall(commands)
        replies: list[Reply] = []
        gets, buffer = self._reader.gets, self._buffer
        while len(replies) < count:
            got = self._socket.recv_into(buffer)
            if got == 0:
                raise ConnectionResetError("the store closed the connection")
            try:
                self._reader.feed(buffer, 0, got)  # type: ignore[arg-type]  # its stub knows fewer types than it does
                while len(replies) < count and (reply := gets()) is not False:
                    replies.append(reply)
            except hiredis.ProtocolError:
                raise ConnectionError("the other side speaks no Redis") from None
        return replies

    def usable(self) -> bool:
        """Return whether nothing came in unasked, not even the end of the connection."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """End the connection."""
        self._socket.close()


class Wires:
    """Connections that threads share: each round trip has one to itself."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._idle: list[Wire] = []

    def ask(self, commands: bytes, count: int) -> list[Reply]:
        """Send packed commands and return their replies, in order.

        Raises
        ------
        StoreUnavailable
            The store cannot be reached, or did not answer in time.
        """
        try:
            wire = self._take()
            try:
                replies = wire.ask(commands, count)
            except BaseException:
                wire.close()
                raise
        except OSError as error:
            raise StoreUnavailable(f"the online store did not answer ({type(error).__name__})") from None
        with self._lock:
            self._idle.append(wire)
        return replies

    def close(self) -> None:
        """End the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for wire in idle:
            wire.close()

    def _take(self) -> Wire:
        while True:
            with self._lock:
                wire = self._idle.pop() if self._idle else None
            if wire is None:
                return Wire(self._options)
            if wire.usable():
                return wire
            wire.close()


def pack(command: tuple[str, ...]) -> bytes:
    """Return one command as it travels."""
    return cast(bytes, hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub knows fewer types than it does
