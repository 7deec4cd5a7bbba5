import gc
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from serving import timed_http
from serving.client import Client, HttpEndpoint, NoAnswer, Refused
from tests.support.emulators import free_port
from tests.support.loopback import serve_http
from tests.support.scorers import payment
from tests.support.tls import issue, terminate_tls

ANSWER = {
    "decision_id": "d",
    "transaction_id": "t000001",
    "outcome": "approve",
    "score": 0.25,
    "reasons": [],
    "model_version": "m",
    "policy_version": "p",
    "degraded": False,
    "missing": [],
    "stale": [],
}
REFUSAL = {"error": {"code": "invalid_transaction", "field": "country", "reason": "is none"}}
Step = tuple[int, Any, float]


@contextmanager
def answering(*steps: Step) -> Iterator[tuple[HttpEndpoint, list[dict[str, str]]]]:
    """Serve each request the next step: status, body, seconds of thinking; the last one for ever."""
    asked: list[dict[str, str]] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with lock:
                status, answer, pause = steps[min(len(asked), len(steps) - 1)]
                asked.append(
                    {"body": body.decode(), "path": self.path, **{k.lower(): v for k, v in self.headers.items()}}
                )
            time.sleep(pause)
            data = json.dumps(answer).encode()
            try:
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                self.close_connection = True

    with serve_http(Handler) as port:
        endpoint = HttpEndpoint("127.0.0.1", port)
        try:
            yield endpoint, asked
        finally:
            endpoint.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_decision_comes_back_typed_and_the_inference_id_and_explain_are_carried() -> None:
    with answering((200, ANSWER, 0.0)) as (endpoint, asked):
        answer = Client(endpoint, timeout_s=5).decide(payment(1), inference_id="i1", explain=True)
    assert (answer.outcome, answer.score, answer.transaction_id) == ("approve", 0.25, "t000001")
    assert (asked[0]["x-amzn-sagemaker-inference-id"], asked[0]["path"]) == ("i1", "/invocations?explain=1")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_fault_is_asked_again_with_the_same_transaction_and_a_refusal_is_not() -> None:
    with answering((503, {}, 0.0), (500, {}, 0.0), (200, ANSWER, 0.0)) as (endpoint, asked):
        assert Client(endpoint, timeout_s=5).decide(payment(1)).outcome == "approve"
        assert len(asked) == 3
        assert len({request["body"] for request in asked}) == 1
    with answering((422, REFUSAL, 0.0)) as (endpoint, asked):
        with pytest.raises(Refused, match="country") as caught:
            Client(endpoint, timeout_s=5).decide(payment(1))
        assert (caught.value.status, len(asked)) == (422, 1)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_all_attempts_together_stay_within_the_timeout() -> None:
    with answering((200, ANSWER, 30.0)) as (endpoint, asked):
        with pytest.raises(NoAnswer, match=r"within 0\.2 s"):
            Client(endpoint, timeout_s=0.2).decide(payment(1))
        assert len(asked) == 1


@contextmanager
def trickling(head: bytes, every_s: float) -> Iterator[tuple[int, list[int]]]:
    """Answer one connection with ``head`` and then a byte now and then; yield the port and the bytes sent after it."""
    sent, stop = [0], threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            try:
                connection.sendall(head)
                while not stop.wait(every_s):
                    connection.sendall(b" ")
                    sent[0] += 1
            except OSError:
                pass  # the client has hung up

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1], sent
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{", id="in the body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nx-slow: ", id="in the headers"),
    ],
)
def test_a_server_that_sends_a_byte_now_and_then_is_given_up_at_the_deadline(head: bytes) -> None:
    """Each byte comes within the timeout: only a deadline for all of them together ends it."""
    with trickling(head, every_s=0.05) as (port, sent):
        endpoint = HttpEndpoint("127.0.0.1", port)
        with pytest.raises(NoAnswer, match="TimeoutError"):
            Client(endpoint, timeout_s=0.4, attempts=1).decide(payment(1))
        assert 1 <= sent[0] < 20  # a byte every 50 ms for a little over 400 ms, of a million to come


def test_what_waits_is_armed_with_what_is_left_and_refuses_once_nothing_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("serving.timed_http.time.monotonic", lambda: now[0])
    with timed_http._TimedSocket() as sock:
        sock.deadline = 100.5
        sock.arm()
        assert sock.gettimeout() == 0.5
        now[0] = 100.25
        sock.arm(0.5)
        assert sock.gettimeout() == 0.125
        now[0] = 100.5
        with pytest.raises(TimeoutError):
            sock.recv_into(bytearray(1))
        with pytest.raises(TimeoutError):
            sock.sendall(b"x")


def test_over_tls_a_handshake_that_never_ends_and_an_answer_that_trickles_are_given_up_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = issue(tmp_path / "ca", "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(files.ca))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = timed_http.TimedHttp("127.0.0.1", silent.getsockname()[1], tls=True)
        with pytest.raises(TimeoutError):
            mute.post("/", b"{}", {}, deadline=time.monotonic() + 0.2)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{"
    with trickling(head, every_s=0.05) as (behind, sent), terminate_tls(files, behind) as port:
        slow = timed_http.TimedHttp("127.0.0.1", port, tls=True)
        with pytest.raises(TimeoutError):
            slow.post("/", b"{}", {}, deadline=time.monotonic() + 1.0)
        assert 1 <= sent[0] < 40


def test_nobody_listening_is_no_answer() -> None:
    with pytest.raises(NoAnswer, match="ConnectionRefusedError"):
        Client(HttpEndpoint("127.0.0.1", free_port()), timeout_s=1).decide(payment(1))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(("hedge", "questions"), [(None, 1), (0.05, 2)])
def test_a_second_question_is_asked_only_when_hedging_is_on(hedge: float | None, questions: int) -> None:
    with answering((200, ANSWER, 0.6), (200, ANSWER, 0.0)) as (endpoint, asked):
        client = Client(endpoint, timeout_s=5, hedge_after_s=hedge)
        assert client.decide(payment(1)).outcome == "approve"
        assert len(asked) == questions
        client.close()
        gc.collect()  # the threads of hedging are gone, and with them their connections


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_answer_that_is_no_decision_is_no_answer() -> None:
    with answering((200, {"hello": 1}, 0.0)) as (endpoint, _), pytest.raises(NoAnswer, match="no decision"):
        Client(endpoint, timeout_s=5).decide(payment(1))
