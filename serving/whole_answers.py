"""A transport on which an answer leaves whole: its head waits for its body, so that both are one write and one packet.

Uvicorn writes them one after the other, and each write is a system call, a packet and a wake-up of the client.
"""

import asyncio
from typing import Any, Final

_HEAD: Final = b"HTTP/1.1 "
_CONTINUE: Final = b"HTTP/1.1 100"
"""No answer yet: the client waits for it before it sends its body."""


class WholeAnswers:
    """What uvicorn uses of a transport; all but writing and ending is the transport's own."""

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        """Return what the transport has by this name."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, or keep the head of an answer until what follows it."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_HEAD) and not data.startswith(_CONTINUE):
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Write a head that nothing follows."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """Write what is kept and close."""
        self.flush()
        self._transport.close()
