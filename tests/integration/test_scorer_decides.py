"""The scorer as a process, with a real Valkey: what it decides, and what it refuses."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from fraud.bundle import open_bundle
from fraud.features import NO_PROFILES, Profiles, evaluate
from fraud.ring import new_scratch
from fraud.transaction import Transaction, encode_transaction
from fraud.velocity import entity_key, transaction_change, update
from fraud.windows import ENTITIES, Entity
from serving.requests import MAX_BODY_BYTES
from stores.guards import state_view
from stores.layout import Value, encode_value
from stores.layout import entity_key as redis_key
from tests.support.bundles import PROJECT, bundle_files, write_test_bundle
from tests.support.emulators import start_valkey, valkey_client
from tests.support.scorers import (
    NOW,
    ROOT,
    Scorer,
    await_true,
    fill_profile,
    fill_states,
    history,
    payment,
    scorer_environment,
    start_scorer,
)

CARD_PROFILE: dict[str, Value] = {
    "card_home_country": "FR",
    "card_age_days": 100,
    "card_amount_median_30d": 1500.0,
    "card_online_share_30d": 0.5,
}
MERCHANT_PROFILE: dict[str, Value] = {
    "merchant_age_days": 9,
    "merchant_amount_median_30d": 2500.0,
    "merchant_card_distinct_30d": 20,
}


SEED = 3  # of a model that gives these payments many different scores


def replayed() -> dict[tuple[Entity, str | None], bytes]:
    """Return the state that the history leaves behind in every entity."""
    states: dict[tuple[Entity, str | None], bytes] = {}
    for earlier in history():
        for entity in ENTITIES:
            key = entity, entity_key(entity, earlier)
            states[key], _ = update(entity, states.get(key, b""), transaction_change(entity, earlier))
    return states


STATES = replayed()


def expected_score(transaction: Transaction, profiles: Profiles) -> float:
    """Return the score by the plain road: the history replayed, the vector evaluated, the bundle asked."""
    states = {entity: STATES.get((entity, entity_key(entity, transaction)), b"") for entity in ENTITIES}
    return open_bundle(bundle_files(SEED)).score(evaluate(transaction, states, profiles, new_scratch()))


SCORES = sorted({expected_score(payment(number), NO_PROFILES) for number in range(40)})
REVIEW_AT, DECLINE_AT = SCORES[1], SCORES[-1]
BUNDLE = open_bundle(bundle_files(SEED, review_at=REVIEW_AT, decline_at=DECLINE_AT))


@pytest.fixture(scope="module")
def client() -> Iterator["redis.Redis[bytes]"]:
    with start_valkey() as port, valkey_client(port) as connected:
        fill_states(connected, history())
        fill_profile(connected, "card", "c1", NOW - 86_400_000, CARD_PROFILE)
        fill_profile(connected, "merchant", "m1", NOW - 90 * 86_400_000, MERCHANT_PROFILE)
        yield connected


@pytest.fixture(scope="module")
def scorer(client: "redis.Redis[bytes]", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scorer]:
    folder = tmp_path_factory.mktemp("scorer")
    port = int(client.connection_pool.connection_kwargs["port"])
    model = write_test_bundle(folder / "model", SEED, review_at=REVIEW_AT, decline_at=DECLINE_AT)
    with start_scorer(model, port, store_timeout_ms=10_000, decision_log=folder / "log") as running:
        yield running


def test_a_decision_has_the_score_of_its_history_and_profiles_bit_for_bit(scorer: Scorer) -> None:
    transaction = payment(1)
    answer = scorer.decide(transaction)
    profiles = Profiles("FR", (100.0, 1500.0, 0.5), (9.0, 2500.0, 20.0))
    assert answer["score"] == expected_score(transaction, profiles)
    assert answer["outcome"] == BUNDLE.policy.outcome(answer["score"])
    assert answer["transaction_id"] == transaction.transaction_id
    assert (answer["model_version"], answer["policy_version"]) == (BUNDLE.version, "test")
    assert (answer["degraded"], answer["missing"]) == (False, [])
    assert answer["stale"] == ["merchant_profile"]


def test_entities_never_seen_and_no_device_are_decided_without_being_called_missing(scorer: Scorer) -> None:
    stranger = payment(2, card_id="new-c", merchant_id="new-m", device_id=None, latitude=None, longitude=None)
    answer = scorer.decide(stranger)
    nothing = Profiles(None, (float("nan"),) * 3, (float("nan"),) * 3)
    assert answer["score"] == expected_score(stranger, nothing)
    assert (answer["degraded"], answer["missing"], answer["stale"]) == (False, [], [])


def test_reasons_come_with_reviews_and_declines_and_with_approvals_when_asked_for(scorer: Scorer) -> None:
    answers = [scorer.decide(payment(number)) for number in range(40)]
    assert {answer["outcome"] for answer in answers} == {"approve", "review", "decline"}
    for answer in answers:
        assert bool(answer["reasons"]) == (answer["outcome"] != "approve")
        assert len(answer["reasons"]) <= 3
        assert all(set(reason) == {"code", "text", "weight"} for reason in answer["reasons"])
    approved = next(n for n, answer in enumerate(answers) if answer["outcome"] == "approve")
    asked = {"x-amzn-sagemaker-custom-attributes": "explain"}
    explained = scorer.decide(payment(approved), **asked)
    assert explained["outcome"] == "approve"
    assert explained["reasons"]


def test_the_inference_id_names_the_decision_and_others_are_unique(scorer: Scorer) -> None:
    named = scorer.decide(payment(3), **{"x-amzn-sagemaker-inference-id": "checkout-17"})
    assert named["decision_id"] == "checkout-17"
    ids = {scorer.decide(payment(3))["decision_id"] for _ in range(20)}
    assert len(ids) == 20


def test_a_state_that_is_none_costs_its_entity_only(scorer: Scorer, client: "redis.Redis[bytes]") -> None:
    field = state_view("device").state
    key = redis_key("device_id", "bad-d", PROJECT)
    pipe: Any = client.pipeline(transaction=False)
    for value in (encode_value(b"\x01\x01rubbish"), encode_value("text"), b"\x0a\xff", b"\xf9"):
        pipe.execute_command("HSET", key, field, value)
        pipe.execute()
        answer = scorer.decide(payment(4, device_id="bad-d"))
        if value == encode_value("text"):
            continue
        assert (answer["degraded"], answer["missing"]) == (True, ["device_velocity"])


def test_a_batch_gives_one_result_per_row_and_a_bad_row_its_own_error(scorer: Scorer) -> None:
    rows = [encode_transaction(payment(number)) for number in range(50)]
    rows[7] = b'{"transaction_id":"t"}'
    rows[9] = rows[9].replace(b'"EUR"', b'"USD"')
    for body in (b"[" + b",".join(rows) + b"]", b'{"transactions":[' + b",".join(rows) + b"]}"):
        status, answer = scorer.invoke(body)
        assert status == 200
        results = answer["results"]
        assert len(results) == 50
        assert [n for n, result in enumerate(results) if "error" in result] == [7, 9]
        assert (results[7]["error"]["field"], results[9]["error"]["field"]) == ("card_id", "currency")
        singly = [scorer.decide(payment(number))["score"] for number in (0, 8, 49)]
        assert [results[number]["score"] for number in (0, 8, 49)] == singly


def test_an_empty_batch_is_an_empty_answer(scorer: Scorer) -> None:
    assert scorer.invoke(b"[]") == (200, {"results": []})


GOOD = encode_transaction(payment(5))


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "field"),
    [
        ("POST", "/invocations", b"{", {}, 400, "body"),
        ("POST", "/invocations", b"", {}, 400, "body"),
        ("POST", "/invocations", b"[" * 100_000, {}, 400, "body"),
        ("POST", "/invocations", GOOD.replace(b"5411", b"NaN"), {}, 400, "body"),
        ("POST", "/invocations", GOOD.replace(b"5411", b"1" + b"0" * 9000), {}, 422, "merchant_category"),
        ("POST", "/invocations", GOOD[:-1] + b',"card_id":"c2"}', {}, 422, "card_id"),
        ("POST", "/invocations", GOOD.replace(b'"c5"', b'"\\udfff"'), {}, 400, "body"),
        ("POST", "/invocations", GOOD.replace(b'"c5"', b'"4111111111111111"'), {}, 422, "card_id"),
        ("POST", "/invocations", b" " * (MAX_BODY_BYTES + 1), {}, 413, "body"),
        ("POST", "/invocations", GOOD, {"content-type": "text/csv"}, 415, "content-type"),
        ("POST", "/invocations", GOOD, {"x-amzn-sagemaker-inference-id": "a b"}, 422, "inference-id"),
        ("GET", "/invocations", None, {}, 405, "method"),
        ("POST", "/ping", b"", {}, 405, "method"),
        ("GET", "/other", None, {}, 404, "path"),
        ("GET", "/", None, {}, 404, "path"),
    ],
)
def test_bad_requests_get_a_typed_answer_that_names_the_field(
    scorer: Scorer, method: str, path: str, body: bytes | None, headers: dict[str, str], status: int, field: str
) -> None:
    found, text = scorer.request(method, path, body, headers)
    error = json.loads(text)["error"]
    assert (found, error["field"]) == (status, field)
    assert set(error) == {"code", "field", "reason"}
    assert b"4111111111111111" not in text
    assert b"Traceback" not in text
    assert scorer.request("GET", "/ping")[0] == 200


def test_a_chunked_body_that_grows_too_long_is_refused(scorer: Scorer) -> None:
    with socket.create_connection(("127.0.0.1", scorer.port)) as connection:
        head = b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        connection.sendall(head + b"transfer-encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        for _ in range(6):
            connection.sendall(chunk)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_an_answer_leaves_whole_with_a_body_or_without(scorer: Scorer) -> None:
    with socket.create_connection(("127.0.0.1", scorer.port)) as connection:
        for method in (b"GET", b"HEAD", b"GET"):
            connection.sendall(method + b" /ping HTTP/1.1\r\nhost: x\r\n\r\n")
            head, _, body = connection.recv(4096).partition(b"\r\n\r\n")  # one packet
            assert head.startswith(b"HTTP/1.1 200 ")
            assert (b"ready" in body) == (method == b"GET")
        head = b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
        connection.sendall(head + b"expect: 100-continue\r\n\r\n")
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert connection.recv(4096).startswith(b"HTTP/1.1 422 ")


def test_broken_http_and_half_open_clients_do_not_touch_their_neighbours(scorer: Scorer) -> None:
    clients = [socket.create_connection(("127.0.0.1", scorer.port)) for _ in range(20)]
    for number, connection in enumerate(clients):
        connection.sendall((b"\x00\xff\r\n\r\n", b"POST /invocations HTTP/1.1\r\ncontent-le", b"")[number % 3])
    assert scorer.decide(payment(6))["degraded"] is False
    await_true(lambda: scorer.metric("tollgate_clients_dropped_total") >= 13)
    for connection in clients:
        connection.close()


def test_the_schema_and_the_metrics_are_published(scorer: Scorer) -> None:
    status, text = scorer.request("GET", "/schema")
    schema = json.loads(text)
    assert (status, schema["openapi"]) == (200, "3.1.0")
    assert set(schema["components"]["schemas"]["Transaction"]["properties"]) == set(Transaction.__struct_fields__)
    before = scorer.metric("tollgate_decisions_total")
    scorer.decide(payment(7))
    assert scorer.metric("tollgate_decisions_total") == before + 1
    assert scorer.metric("tollgate_serving") == 1


def test_nothing_personal_is_logged_outside_the_decision_log(scorer: Scorer) -> None:
    marked = payment(8, card_id="MARKED-c", merchant_id="MARKED-m", device_id="MARKED-d", ip="MARKED-i")
    scorer.decide(marked)
    scorer.invoke(encode_transaction(marked).replace(b'"EUR"', b'"MARKED"'))
    time.sleep(0.3)
    assert b"MARKED" not in b"".join(scorer.lines)
    assert b"MARKED" not in scorer.request("GET", "/metrics")[1]


def test_the_container_imports_no_heavy_library() -> None:
    script = (
        "import sys, serving.__main__, serving.server, serving.rescore\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(json.loads(ran.stdout.replace("'", '"')))
    heavy = {"feast", "pandas", "xgboost", "boto3", "redis", "pyarrow", "sklearn", "typer", "rich", "fastapi"}
    assert not loaded & heavy
    assert {"uvicorn", "hiredis", "msgspec", "numba"} <= loaded


def start_and_fail(model: Path, **settings: object) -> tuple[int, str]:
    environment = scorer_environment(model_dir=model, redis_port=1, **settings)
    ran = subprocess.run(
        [sys.executable, "-m", "serving"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return ran.returncode, ran.stderr


def test_a_corrupt_bundle_is_refused_at_start_with_its_file_and_digest(tmp_path: Path) -> None:
    model = write_test_bundle(tmp_path / "model")
    content = bytearray((model / "model.json").read_bytes())
    content[len(content) // 2] ^= 1
    (model / "model.json").write_bytes(content)
    status, said = start_and_fail(model)
    assert status == 1
    assert len(said.splitlines()) == 1
    assert "model.json has digest " in said


def test_a_missing_model_a_missing_file_and_a_wrong_setting_end_with_one_sentence(tmp_path: Path) -> None:
    model = write_test_bundle(tmp_path / "model")
    (model / "policy.json").unlink()
    for directory, settings, words in (
        (tmp_path / "none", {}, "does not exist"),
        (model, {}, "policy.json"),
        (model, {"store_timeout_ms": 0}, "TOLLGATE_STORE_TIMEOUT_MS=0"),
    ):
        status, said = start_and_fail(directory, **settings)
        assert status == 1
        assert len(said.splitlines()) == 1
        assert words in said


def test_a_busy_port_ends_with_one_sentence_and_leaves_the_other_alone(scorer: Scorer, tmp_path: Path) -> None:
    status, said = start_and_fail(write_test_bundle(tmp_path / "model"), bind_port=scorer.port)
    assert status == 1
    assert len(said.splitlines()) == 1
    assert f":{scorer.port}" in said
    assert scorer.request("GET", "/ping")[0] == 200
