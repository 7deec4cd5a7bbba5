"""A connection to Redis for one thread: commands out in one write, replies back in order.

redis-py's pipeline spends more on a command than the server does. Here the caller has packed the bytes already, and a
reply costs one call into hiredis. It waits as long as it was told to and never tries again by itself: what an outage
means is decided by the caller.
"""

import select
import socket
import ssl
import threading
import weakref
from collections.abc import Sequence
from typing import Any, Final, cast

import hiredis

from fraud.errors import StoreUnavailable
from stores.access import Access
from stores.slots import Address

Reply = Any
"""Bytes, a list of bytes and nulls, a number, or a ``hiredis.ReplyError`` in the place of one."""

Parts = Sequence[bytes]
"""One packed command, in as many pieces as it was made of."""

CHUNK: Final = 1 << 18
"""Bytes read at a time."""


def pack(command: tuple[bytes, ...]) -> bytes:
    """Return one command as it travels."""
    return cast(bytes, hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub knows fewer types than it does


class Wire:
    """One connection, for one thread at a time.

    Parameters
    ----------
    access
        Credentials and TLS.
    address
        The node.
    timeout_s
        Longest wait for the connection, and for each piece of an answer.

    Raises
    ------
    OSError
        The node cannot be reached, its certificate is not its own, or it refuses our credentials
        (:class:`PermissionError`).
    """

    def __init__(self, access: Access, address: Address, timeout_s: float) -> None:
        self._reader = hiredis.Reader()
        self._buffer = bytearray(CHUNK)
        plain = socket.create_connection(address, timeout_s)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._socket = plain if access.tls is None else access.tls.wrap_socket(plain, server_hostname=address.host)
        except BaseException:
            plain.close()
            raise
        weakref.finalize(self, self._socket.close)
        try:
            self._greet(access)
        except BaseException:
            self.close()
            raise

    def _greet(self, access: Access) -> None:
        command = access.authentication()
        if not command:
            access.refused()  # a password that could not be read at the start may be there now
            command = access.authentication()
        if command:
            self.send(pack(command))
            (reply,) = self.receive(1)
            if isinstance(reply, hiredis.ReplyError):
                access.refused()
                raise PermissionError("the store refused the user or the password")

    def send(self, commands: bytes) -> None:
        """Send packed commands.

        Raises
        ------
        OSError
            The connection is of no more use.
        """
        self._socket.sendall(commands)

    def receive(self, count: int) -> list[Reply]:
        """Return the next ``count`` replies, in order.

        Raises
        ------
        OSError
            The connection is of no more use: lost, too slow, or the other side speaks no Redis.
        """
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
    """Connections to one node that threads share: each round trip has one to itself.

    Parameters
    ----------
    access
        Credentials, TLS and, unless ``address`` is another, the node.
    timeout_s
        See :class:`Wire`.
    """

    def __init__(self, access: Access, timeout_s: float, address: Address | None = None) -> None:
        self.address = address or Address(access.host, access.port)
        self._access = access
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._idle: list[Wire] = []

    def ask(self, keys: Sequence[bytes], commands: Sequence[Parts]) -> list[Reply]:  # noqa: ARG002  # see ClusterWires
        """Send packed commands and return their replies, in order.

        Parameters
        ----------
        keys
            The key of each command; of no interest where there is one node.

        Raises
        ------
        StoreUnavailable
            The store cannot be reached, or did not answer in time.
        """
        try:
            wire = self.take()
            try:
                wire.send(b"".join([part for command in commands for part in command]))
                replies = wire.receive(len(commands))
            except BaseException:
                wire.close()
                raise
        except OSError as error:
            raise unavailable(error) from None
        self.give(wire)
        return replies

    def tell_all(self, command: bytes) -> None:
        """Send a packed command to every node and wait until it is done; raises as :meth:`ask`."""
        refused = self.ask((b"",), [(command,)])[0]
        if isinstance(refused, hiredis.ReplyError):
            raise StoreUnavailable(f"the online store refused a command ({str(refused).split(' ', 1)[0][:20]})")

    def take(self) -> Wire:
        """Return a connection that nobody uses; whoever takes it gives it back or closes it.

        Raises
        ------
        OSError
            See :class:`Wire`.
        """
        while True:
            with self._lock:
                wire = self._idle.pop() if self._idle else None
            if wire is None:
                return Wire(self._access, self.address, self._timeout_s)
            if wire.usable():
                return wire
            wire.close()

    def give(self, wire: Wire) -> None:
        """Take a connection back, with no answer outstanding."""
        with self._lock:
            self._idle.append(wire)

    def close(self) -> None:
        """End the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for wire in idle:
            wire.close()


def unavailable(error: OSError) -> StoreUnavailable:
    """Return what a lost, refused or unverified connection means to a caller, and why."""
    return StoreUnavailable(f"the online store did not answer ({why(error)})")


def why(error: BaseException) -> str:
    """Return in one word why a connection could not be had: ``certificate_refused``, ``credentials_refused``, ...

    Examples
    --------
    >>> why(PermissionError("WRONGPASS")), why(ConnectionRefusedError()), why(TimeoutError())
    ('credentials_refused', 'ConnectionRefusedError', 'too_slow')
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return "certificate_refused"
    if isinstance(error, ssl.SSLError):
        return "no_tls"
    if isinstance(error, PermissionError):
        return "credentials_refused"
    return "too_slow" if isinstance(error, TimeoutError) else type(error).__name__
