"""One HTTP question and its answer by an absolute deadline, over a connection that is kept.

A socket's own timeout is one of each read: a server that sends a byte now and then holds its client as long as it
likes. Here every wait, of connecting, of the handshake, of sending and of each read, is given what is left until the
deadline and no more. Only the look-up of a host's name is the system's own and is not bounded.
"""

import contextlib
import http.client
import math
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any


class _TimedSocket(socket.socket):
    """A socket whose every wait ends at ``deadline``, a reading of the monotonic clock."""

    deadline = math.inf

    def arm(self, share: float = 1.0) -> None:
        """Let the next wait take a share of what is left."""
        left = self.deadline - time.monotonic()
        if left <= 0.0:
            raise TimeoutError("the deadline has passed")
        self.settimeout(left * share if math.isfinite(left) else None)

    def recv_into(self, *arguments: Any) -> int:
        self.arm()
        return super().recv_into(*arguments)

    def send(self, *arguments: Any) -> int:
        self.arm()
        return super().send(*arguments)

    def sendall(self, *arguments: Any) -> None:
        self.arm()
        super().sendall(*arguments)


class _TimedTls(_TimedSocket, ssl.SSLSocket):
    """The same with TLS; made by a context."""


class _Connection(http.client.HTTPConnection):
    """Connects by the deadline that is set before each question; closed when the thread that keeps it ends."""

    deadline = math.inf

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        super().__init__(host, port)
        self._context = tls

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            self.close()

    def connect(self) -> None:
        """Connect, and shake hands when it is TLS, by the deadline."""
        sock = _connected(self.host, self.port, self.deadline)
        self.sock = sock
        if self._context is not None:
            sock.arm()
            self.sock = self._context.wrap_socket(sock, server_hostname=self.host)
            self.wait_until(self.deadline)

    def wait_until(self, deadline: float) -> None:
        """Set when every wait ends."""
        self.deadline = deadline
        if isinstance(self.sock, _TimedSocket):
            self.sock.deadline = deadline


def _connected(host: str, port: int, deadline: float) -> _TimedSocket:
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failed: OSError = OSError(f"{host} has no address")
    for place, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = _TimedSocket(family, kind, protocol)
        sock.deadline = deadline
        try:
            sock.arm(1.0 / (len(addresses) - place))  # an address that swallows packets leaves time for the next one
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            failed = error
        else:
            return sock
    raise failed


class TimedHttp:
    """Where questions are asked; one kept connection per thread.

    Parameters
    ----------
    host, port
        Whom to ask.
    tls
        Whether to speak TLS, with the system's authorities and the host's name checked.
    """

    def __init__(self, host: str, port: int, *, tls: bool = False) -> None:
        self._address = host, port
        self._kept = threading.local()
        self._context: ssl.SSLContext | None = None
        if tls:
            self._context = ssl.create_default_context()
            self._context.sslsocket_class = _TimedTls

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._kept, "connection", None)
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()

    def post(self, path: str, body: bytes, headers: Mapping[str, str], *, deadline: float) -> tuple[int, bytes]:
        """Return status and body of the answer to a ``POST``.

        Parameters
        ----------
        deadline
            A reading of the monotonic clock at which this returns or raises.

        Raises
        ------
        OSError
            There was none by the deadline.
        """
        connection: _Connection | None = getattr(self._kept, "connection", None)
        if connection is None:
            connection = self._kept.connection = _Connection(*self._address, self._context)
        connection.wait_until(deadline)
        try:
            connection.request("POST", path, body, dict(headers))
            response = connection.getresponse()
            return response.status, response.read()
        except OSError:
            self.close()
            raise
        except http.client.HTTPException as error:
            self.close()
            raise ConnectionError(f"what came is no HTTP ({type(error).__name__})") from None
