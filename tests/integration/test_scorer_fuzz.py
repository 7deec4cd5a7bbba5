"""Bad input from everywhere: a prompt, typed 4xx, never a 5xx, and no effect on neighbours."""

import json
import socket
import string
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud.transaction import encode_transaction
from tests.support.bundles import write_test_bundle
from tests.support.emulators import start_valkey, valkey_client
from tests.support.scorers import Scorer, await_true, fill_states, history, payment, start_scorer

GOOD: dict[str, Any] = json.loads(encode_transaction(payment(1)))
ODD_TEXT = st.text(max_size=200) | st.sampled_from(
    [
        "\u202eEUR",
        "\u0435",
        "\U0001f4b3",
        "DE\u200b",
        "\ufeffEUR",
        "4111111111111111",
        "a" * 129,
        "\x00",
        "\ud7ff",
        "ﬀ",
        "İ",
    ]
)
ODD_NUMBER = (
    st.integers()
    | st.floats()
    | st.sampled_from([10**400, -(10**400), 2**63, 2**64, 1e308, -0.0, 10**12 + 1, float("nan"), float("inf")])
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | ODD_NUMBER | ODD_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ODD_TEXT, inner, max_size=4),
    max_leaves=12,
)
CODES = {200, 400, 413, 415, 422}
fuzzed = settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scorer]:
    model: Path = write_test_bundle(tmp_path_factory.mktemp("fuzz") / "model")
    with start_valkey() as port, valkey_client(port) as client:
        fill_states(client, history())
        with start_scorer(model, port, store_timeout_ms=5_000) as scorer:
            yield scorer
            assert scorer.events("request_failed") == []


@pytest.fixture
def neighbour(scorer: Scorer) -> Iterator[None]:
    """Whatever happens to others, this payment's score stays what it was, and is not degraded."""
    before = scorer.decide(payment(1))
    yield
    after = scorer.decide(payment(1))
    assert (after["score"], after["degraded"]) == (before["score"], False)
    assert scorer.metric('tollgate_requests_total{path="/invocations",status="500"}') == 0


def check(status: int, answer: Any) -> None:
    assert status in CODES, (status, answer)
    if status != 200:
        assert set(answer["error"]) == {"code", "field", "reason"}
        assert answer["error"]["code"]
        assert len(answer["error"]["reason"]) <= 200


@fuzzed
@given(st.binary(max_size=2000))
def test_any_bytes_get_a_typed_answer(scorer: Scorer, neighbour: None, body: bytes) -> None:
    status, answer = scorer.invoke(body)
    assert status != 200 or answer == {"results": []}
    check(status, answer)


@fuzzed
@given(st.sampled_from(sorted(GOOD)), ANYTHING)
def test_any_value_in_any_field_is_decided_or_refused_by_its_field(
    scorer: Scorer, neighbour: None, name: str, value: Any
) -> None:
    body = json.dumps({**GOOD, name: value}).encode()
    status, answer = scorer.invoke(body)
    check(status, answer)
    if status == 422:
        assert answer["error"]["field"].partition(".")[0] in {name, "latitude", "longitude", "body"}


@fuzzed
@given(
    st.dictionaries(st.sampled_from(sorted(GOOD)) | ODD_TEXT, ANYTHING, max_size=6),
    st.sets(st.sampled_from(sorted(GOOD))),
)
def test_any_object_is_decided_or_refused(
    scorer: Scorer, neighbour: None, extra: dict[str, Any], gone: set[str]
) -> None:
    body = json.dumps({**{k: v for k, v in GOOD.items() if k not in gone}, **extra}).encode()
    check(*scorer.invoke(body))


@fuzzed
@given(st.lists(ANYTHING | st.just(GOOD), max_size=8))
def test_a_batch_of_anything_gives_one_typed_result_per_row(scorer: Scorer, neighbour: None, rows: list[Any]) -> None:
    status, answer = scorer.invoke(json.dumps(rows).encode())
    if status == 200:
        assert len(answer["results"]) == len(rows)
        for row, result in zip(rows, answer["results"], strict=True):
            assert ("score" in result) or set(result) == {"error"}
            assert row is not GOOD or "score" in result
    else:
        check(status, answer)


@fuzzed
@given(
    st.text(string.printable.replace("\r", "").replace("\n", ""), max_size=40),
    st.text(string.printable.replace("\r", "").replace("\n", ""), max_size=200),
)
def test_any_headers_are_read_or_refused(scorer: Scorer, neighbour: None, kind: str, inference_id: str) -> None:
    headers = {"content-type": kind, "x-amzn-sagemaker-inference-id": inference_id}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    body = encode_transaction(payment(2))
    raw = f"POST /invocations HTTP/1.1\r\nhost: s\r\n{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    answer = exchange(scorer, raw.encode() + body)
    assert int(answer[9:12]) in {*CODES, 400}


@fuzzed
@given(st.binary(max_size=300))
def test_bytes_that_are_no_http_are_closed_without_a_5xx(scorer: Scorer, neighbour: None, raw: bytes) -> None:
    answer = exchange(scorer, raw + b"\r\n\r\n")
    assert not answer.startswith(b"HTTP/1.1 5")


def exchange(scorer: Scorer, raw: bytes) -> bytes:
    """Send raw bytes, half-close, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", scorer.port), 30) as connection:
        try:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            parts = []
            while data := connection.recv(1 << 16):
                parts.append(data)
        except ConnectionError:
            return b""
        return b"".join(parts)


POST = b"POST /invocations HTTP/1.1\r\nhost: s\r\n"
TEN_MEGABYTES = b"content-type: application/json\r\ncontent-length: 10485760\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (POST + TEN_MEGABYTES, b"413"),
        (
            b"POST /invocations HTTP/1.1\r\nhost: s\r\ncontent-type: text/csv\r\ntransfer-encoding: chunked\r\n\r\n",
            b"415",
        ),
        (b"POST /nowhere HTTP/1.1\r\nhost: s\r\n" + TEN_MEGABYTES, b"404"),
        (b"PUT /invocations HTTP/1.1\r\nhost: s\r\n" + TEN_MEGABYTES, b"405"),
    ],
)
def test_a_long_body_is_refused_before_it_is_read_and_the_connection_closed(
    scorer: Scorer, neighbour: None, head: bytes, status: bytes
) -> None:
    refused = scorer.metric("tollgate_refusals_total")
    with socket.create_connection(("127.0.0.1", scorer.port), 30) as connection:
        connection.sendall(head)
        answer = connection.recv(1 << 16)  # not one byte of the body was sent
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b"\r\nconnection: close\r\n" in answer
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        with pytest.raises(ConnectionError):  # it does not take all that the client wants to send
            connection.sendall(chunk * 2_000)
    assert scorer.metric("tollgate_refusals_total") == refused + 1


def test_what_is_no_http_is_counted_answered_and_logged_seldom(scorer: Scorer, neighbour: None) -> None:
    before = scorer.metric("tollgate_requests_unreadable_total")
    for _ in range(50):
        answer = exchange(scorer, b"\x00\xff\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")
        check(400, json.loads(answer.partition(b"\r\n\r\n")[2]))
    assert scorer.metric("tollgate_requests_unreadable_total") == before + 50
    spoken = [event for event in scorer.events("library_spoke") if "Invalid HTTP" in event["said"]]
    assert len(spoken) < 50


def test_connections_beyond_the_most_are_refused_by_name_and_those_within_are_served(tmp_path: Path) -> None:
    with start_scorer(write_test_bundle(tmp_path / "model"), 9, most_connections=8) as scorer:
        await_true(lambda: scorer.metric("tollgate_requests_total") > 0)
        body = encode_transaction(payment(1))
        held = [HTTPConnection("127.0.0.1", scorer.port, timeout=30) for _ in range(8)]
        for connection in held:
            connection.request("POST", "/invocations", body, {"content-type": "application/json"})
            assert connection.getresponse().read()
        for _ in range(5):
            refused = exchange(scorer, b"")
            assert refused.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nretry-after: 1\r\n" in refused
            assert b'"too_many_connections"' in refused
        for connection in held:
            connection.request("POST", "/invocations", body, {"content-type": "application/json"})
            assert connection.getresponse().status == 200
            connection.close()
        await_true(lambda: scorer.metric("tollgate_connections_refused_total") >= 5)


def test_deep_nesting_is_refused(scorer: Scorer, neighbour: None) -> None:
    for body in (b"[" * 100_000, b'{"a":' * 20_000, b'{"transactions":' + b"[" * 50_000):
        check(*scorer.invoke(body))


def test_half_open_and_slow_sockets_do_not_slow_their_neighbours_and_are_dropped(
    scorer: Scorer, neighbour: None
) -> None:
    dropped = scorer.metric("tollgate_clients_dropped_total")
    half = b"POST /invocations HTTP/1.1\r\nhost: s\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"
    slow = [socket.create_connection(("127.0.0.1", scorer.port), 60) for _ in range(60)]
    try:
        for number, connection in enumerate(slow):
            connection.sendall((half, b"POST /inv", b"", half + b'"card')[number % 4])
        assert [scorer.decide(payment(number))["degraded"] for number in range(50)] == [False] * 50
        assert [is_closed(connection) for connection in slow] == [True] * len(slow)
    finally:
        for connection in slow:
            connection.close()
    assert scorer.metric("tollgate_clients_dropped_total") - dropped == len(slow)


def is_closed(connection: socket.socket) -> bool:
    """Wait until the other side closes; false when it answers instead."""
    try:
        return connection.recv(10) == b""
    except ConnectionError:
        return True
