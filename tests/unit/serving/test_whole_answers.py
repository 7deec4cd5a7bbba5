"""An answer is one write: against a transport that notes what it is asked to write."""

import asyncio
from typing import cast

from serving.whole_answers import WholeAnswers


class Noted:
    """Notes writes and the end."""

    def __init__(self) -> None:
        self.done: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def close(self) -> None:
        self.done.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.done


def opened() -> tuple[WholeAnswers, Noted]:
    noted = Noted()
    return WholeAnswers(cast(asyncio.Transport, noted)), noted


def test_head_and_body_are_one_write_and_the_rest_follows() -> None:
    whole, noted = opened()
    for part in (b"HTTP/1.1 200 OK\r\n\r\n", b"{}", b"more", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"no"):
        whole.write(part)
    assert noted.done == [b"HTTP/1.1 200 OK\r\n\r\n{}", b"more", b"HTTP/1.1 400 Bad Request\r\n\r\nno"]


def test_a_client_that_waits_to_send_is_told_at_once() -> None:
    whole, noted = opened()
    whole.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert noted.done == [b"HTTP/1.1 100 Continue\r\n\r\n"]


def test_a_head_alone_leaves_when_the_answer_or_the_connection_ends() -> None:
    whole, noted = opened()
    whole.write(b"HTTP/1.1 200 OK\r\n\r\n")
    whole.flush()
    whole.flush()
    whole.write(b"HTTP/1.1 503 Busy\r\n\r\n")
    assert not whole.is_closing()
    whole.close()
    assert noted.done == [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 503 Busy\r\n\r\n", "closed"]
    assert whole.is_closing()
