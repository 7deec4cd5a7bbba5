import asyncio
import logging
from typing import Any

import msgspec
import pytest

from fraud.settings import Settings
from fraud.transaction import encode_transaction
from serving.app import App
from serving.logs import NAME, place_of
from serving.metrics import Metrics
from serving.model import prepare_model
from serving.opening import open_store
from serving.scorer import Scorer
from tests.support.bundles import bundle_files
from tests.support.emulators import free_port
from tests.support.scorers import payment


def failing() -> None:
    msgspec.json.decode(b"{")


def test_the_place_of_an_error_is_the_last_of_our_own_lines_and_empty_without_any() -> None:
    with pytest.raises(msgspec.DecodeError) as caught:
        failing()
    assert place_of(caught.value) == ""
    assert place_of(ValueError("never raised")) == ""
    with pytest.raises(Exception, match="manifest") as raised:
        prepare_model({})
    assert place_of(raised.value).startswith("fraud/bundle.py:")


def test_a_request_that_fails_is_logged_with_the_place_and_no_value(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("card c1 in device d1")

    monkeypatch.setattr("serving.scorer.evaluate", broken)
    metrics, settings = Metrics(), Settings(redis_port=free_port())
    store = open_store(settings, metrics)
    scorer = Scorer(prepare_model(bundle_files()), store=store, log=None, metrics=metrics, settings=settings)
    app, sent = App(scorer, metrics=metrics, currency="EUR", budget_ms=50.0), []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": encode_transaction(payment(1))}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "path": "/invocations", "method": "POST", "headers": headers, "query_string": b""}
    with caplog.at_level(logging.WARNING, logger=NAME):
        asyncio.run(app(scope, receive, send))
    (record,) = [record for record in caplog.records if record.getMessage() == "request_failed"]
    fields: dict[str, str] = record.__dict__["fields"]
    assert sent[0]["status"] == 500
    assert fields["error"] == "RuntimeError"
    assert fields["at"].startswith("serving/scorer.py:")
    assert set(fields) == {"error", "at"}
