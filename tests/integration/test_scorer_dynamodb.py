"""The scorer's process on DynamoDB: what the stream wrote there is what it decides with."""

from pathlib import Path

import pytest

from serving.breaker import FAILURES_TO_OPEN
from stores.dynamodb_layout import table_name
from streaming.dynamodb_states import DynamoDBStates
from streaming.states import Held, Swap
from tests.support.bundles import VIEWS, write_test_bundle
from tests.support.emulators import aws_environment, free_port, start_moto, start_valkey, valkey_client
from tests.support.scorers import fill_states, history, payment, start_scorer, states_after
from tests.support.tables import open_tables


def test_decisions_on_dynamodb_are_those_on_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in aws_environment().items():
        monkeypatch.setenv(name, value)
    model, paid = write_test_bundle(tmp_path / "model"), [payment(number) for number in range(30)]
    with start_valkey() as port, valkey_client(port) as client:
        fill_states(client, history(200))
        with start_scorer(model, port, store_timeout_ms=10_000) as scorer:
            expected = [scorer.decide(one, **{"x-amzn-sagemaker-inference-id": "d"}) for one in paid]
    with start_moto() as endpoint, open_tables(endpoint) as tables:
        tables.create([table_name("fraud", view) for views in VIEWS.values() for view in views])
        states = states_after(history(200))
        writer = DynamoDBStates(tables, project="fraud")
        swaps = [Swap(key, Held(b"", 0, b""), state, revision) for key, (state, revision) in states.items()]
        assert all(writer.swap(swaps))
        settings = {"online_store": "dynamodb", "aws_endpoint": endpoint, "store_timeout_ms": 10_000}
        with start_scorer(model, 9, **settings) as scorer:
            found = [scorer.decide(one, **{"x-amzn-sagemaker-inference-id": "d"}) for one in paid]
            assert scorer.metric("tollgate_store_timeouts_total") == 0
    assert found == expected
    assert not any(answer["degraded"] for answer in found)


def test_scorer_without_its_dynamodb_answers_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in aws_environment().items():
        monkeypatch.setenv(name, value)
    settings = {"online_store": "dynamodb", "aws_endpoint": f"http://127.0.0.1:{free_port()}"}
    with start_scorer(write_test_bundle(tmp_path / "model"), 9, **settings) as scorer:
        assert all(scorer.decide(payment(number))["degraded"] for number in range(30))
        assert scorer.metric("tollgate_store_refusals_total") >= 30 - FAILURES_TO_OPEN - 1
        assert scorer.request("GET", "/ping")[0] == 200
