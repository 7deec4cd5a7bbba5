"""The client behind SageMaker's runtime: requests as AWS would check them, on a server that does."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any

import boto3
import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from fraud.transaction import encode_transaction
from serving.client import Client, NoAnswer, Refused, SageMakerEndpoint
from tests.support.emulators import REGION, free_port
from tests.support.loopback import serve_http
from tests.support.scorers import payment

KEYS = Credentials("AKIDEXAMPLE", "secret", "token")
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
Answer = tuple[int, Any, float]
Asked = list[dict[str, str]]

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", KEYS.token)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it remembers the keys of whoever came first


def signature_of(method: str, address: str, headers: dict[str, str], body: bytes) -> str:
    """Return the authorization that this request's signed headers should carry, by botocore's signer."""
    signed = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    request = AWSRequest(method, address, data=body)
    for name in signed:
        request.headers[name] = headers[name]
    request.context["timestamp"] = headers["x-amz-date"]
    signer = botocore.auth.SigV4Auth(KEYS, "sagemaker", REGION)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    scope = signer.scope(request)
    return (
        f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={';'.join(signed)}, "
        f"Signature={signer.signature(text, request)}"
    )


@contextmanager
def runtime(answer: Callable[[int], Answer]) -> Iterator[tuple[str, Asked]]:
    """Answer invocations that are signed as they should be, others with 403; yield the address and the requests."""
    asked: Asked = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with lock:
                number = len(asked)
                asked.append({"path": self.path, "body": body.decode(), **headers})
            address = f"http://{headers['host']}{self.path}"
            if signature_of("POST", address, headers, body) != headers["authorization"]:
                self._say(403, {"message": "signature"}, {"x-amzn-errortype": "InvalidSignatureException"})
                return
            status, answered, pause = answer(number)
            time.sleep(pause)
            if status == 200:
                self._say(200, answered, {"x-amzn-invoked-production-variant": "live"})
            elif status < 500:
                said = {"OriginalStatusCode": status, "OriginalMessage": json.dumps(answered), "Message": "model said"}
                self._say(424, said, {"x-amzn-errortype": "ModelError"})
            else:
                self._say(status, {"Message": "later"}, {"x-amzn-errortype": "ServiceUnavailable"})

        def _say(self, status: int, body: Any, headers: dict[str, str]) -> None:
            data = json.dumps(body).encode()
            try:
                self.send_response(status)
                for name, value in {"content-type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                self.close_connection = True

    with serve_http(Handler) as port:
        yield f"http://127.0.0.1:{port}", asked


def endpoint(address: str) -> SageMakerEndpoint:
    return SageMakerEndpoint("tollgate-dev-scorer", region=REGION, endpoint_url=address)


def test_an_invocation_is_signed_and_carries_the_transaction_the_inference_id_and_the_wish_for_reasons() -> None:
    with runtime(lambda _: (200, ANSWER, 0.0)) as (address, asked):
        answer = Client(endpoint(address), timeout_s=20).decide(payment(1), inference_id="i1", explain=True)
    assert (answer.outcome, answer.score) == ("approve", 0.25)
    (request,) = asked
    assert request["path"] == "/endpoints/tollgate-dev-scorer/invocations"
    assert request["body"].encode() == encode_transaction(payment(1))
    assert request["x-amzn-sagemaker-inference-id"] == "i1"
    assert request["x-amzn-sagemaker-custom-attributes"] == "explain"
    assert request["x-amz-security-token"] == "token"


def test_wrong_keys_are_a_refusal_that_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with runtime(lambda _: (200, ANSWER, 0.0)) as (address, asked):
        with pytest.raises(NoAnswer, match="403"):
            Client(endpoint(address), timeout_s=20, attempts=1).decide(payment(1))
        assert len(asked) == 1


def test_a_refusal_of_the_model_is_told_with_its_field_and_not_asked_again() -> None:
    with (
        runtime(lambda _: (422, REFUSAL, 0.0)) as (address, asked),
        pytest.raises(Refused, match="country") as caught,
    ):
        Client(endpoint(address), timeout_s=20).decide(payment(1))
    assert (caught.value.status, caught.value.error.code) == (422, "invalid_transaction")
    assert len(asked) == 1


def test_a_busy_runtime_is_asked_again_with_the_same_transaction() -> None:
    with runtime(lambda number: (503, {}, 0.0) if number < 2 else (200, ANSWER, 0.0)) as (address, asked):
        assert Client(endpoint(address), timeout_s=20).decide(payment(1), inference_id="i").outcome == "approve"
    assert len(asked) == 3
    assert len({(request["body"], request["x-amzn-sagemaker-inference-id"]) for request in asked}) == 1


def test_a_silent_runtime_is_given_up_at_the_deadline_of_the_question() -> None:
    with runtime(lambda _: (200, ANSWER, 20.0)) as (address, asked):
        asking = Client(endpoint(address), timeout_s=0.25)
        begun = time.monotonic()
        with pytest.raises(NoAnswer, match="TimeoutError"):
            asking.decide(payment(1))
        assert time.monotonic() - begun < 5.0  # it would have thought for 20 s
        assert len(asked) == 1


def test_no_runtime_at_all_and_no_credentials_are_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(NoAnswer, match="ConnectionRefusedError"):
        Client(endpoint(nobody), timeout_s=5, attempts=1).decide(payment(1))
    keyless = endpoint(nobody)
    monkeypatch.setattr(keyless, "_credentials", None)
    with pytest.raises(NoAnswer, match="no AWS credentials"):
        Client(keyless, timeout_s=5, attempts=1).decide(payment(1))


def test_a_hedged_question_is_answered_by_whoever_is_first() -> None:
    with runtime(lambda number: (200, {**ANSWER, "decision_id": str(number)}, 5.0 if number == 0 else 0.0)) as (
        address,
        asked,
    ):
        client = Client(endpoint(address), timeout_s=20, hedge_after_s=0.3)
        assert client.decide(payment(1)).decision_id == "1"
        client.close()
    assert len(asked) == 2
    assert datetime.strptime(asked[0]["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).year > 2000
