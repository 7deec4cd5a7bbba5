import gc
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from serving.client import Client, HttpEndpoint, NoAnswer, Refused
from tests.support.emulators import free_port
from tests.support.scorers import payment

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

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = HttpEndpoint("127.0.0.1", server.server_address[1])
    try:
        yield endpoint, asked
    finally:
        endpoint.close()
        server.shutdown()
        server.server_close()
        thread.join()


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
