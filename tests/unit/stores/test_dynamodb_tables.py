"""The two calls: busy is waited for and bounded, nothing unanswered is absent, nothing failed is done in silence."""

import threading
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ReadTimeoutError
from botocore.stub import ANY, Stubber

from fraud.errors import StoreUnavailable
from stores import dynamodb_tables
from stores.dynamodb_layout import item, raise_time
from stores.dynamodb_tables import BUSY_ATTEMPTS, Tables, Wanted, connect_tables
from stores.errors import InvalidStoreConfig

PUT = raise_time("t", item("k", {}, 0))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamodb_tables, "PAUSE_S", 0.0)


@pytest.fixture
def tables() -> Iterator[Tables]:
    client = boto3.client("dynamodb", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
    made = Tables(client, workers=2)
    yield made
    made.close()


@pytest.fixture
def service(tables: Tables) -> Iterator[Stubber]:
    with Stubber(tables.client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def items(*keys: str) -> list[dict[str, Any]]:
    return [item(key, {}, 0) for key in keys]


def asked(*keys: str) -> dict[str, Any]:
    return {"t": {"Keys": [{"entity_id": {"S": key}} for key in keys]}}


def test_unanswered_keys_are_asked_again(tables: Tables, service: Stubber) -> None:
    service.add_response("batch_get_item", {"Responses": {"t": items("a")}, "UnprocessedKeys": asked("b", "c")})
    service.add_response(
        "batch_get_item", {"Responses": {"t": items("c")}, "UnprocessedKeys": asked("b")}, {"RequestItems": ANY}
    )
    service.add_response("batch_get_item", {"Responses": {"t": items("b")}}, {"RequestItems": asked("b")})
    found = tables.read([Wanted("t", ["a", "b", "c", "stranger", "a"], ["f"])])
    assert set(found) == {("t", "a"), ("t", "b"), ("t", "c")}


def test_keys_that_stay_unanswered_are_an_outage_and_not_absent(tables: Tables, service: Stubber) -> None:
    service.add_response("batch_get_item", {"Responses": {"t": items("a")}, "UnprocessedKeys": asked("b")})
    for _ in range(BUSY_ATTEMPTS):
        service.add_response("batch_get_item", {"Responses": {}, "UnprocessedKeys": asked("b")})
    with pytest.raises(StoreUnavailable, match=f"left 1 keys unanswered {BUSY_ATTEMPTS} times"):
        tables.read([Wanted("t", ["a", "b"], ["f"])])


def test_any_number_of_tables_share_a_request_of_a_hundred_keys(tables: Tables) -> None:
    sizes = []

    def answer(RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - as the client calls it
        sizes.append({table: len(some["Keys"]) for table, some in RequestItems.items()})
        keys = {table: [key["entity_id"]["S"] for key in some["Keys"]] for table, some in RequestItems.items()}
        return {"Responses": {table: items(*some) for table, some in keys.items()}}

    tables.client.batch_get_item = answer
    wanted = [Wanted("one", [str(n) for n in range(70)], ["f"]), Wanted("two", [str(n) for n in range(70)], ["f"])]
    found = tables.read(wanted)
    assert len(found) == 140
    assert sorted(sizes, key=str) == [{"one": 70, "two": 30}, {"two": 40}]


@pytest.mark.parametrize("code", ["ProvisionedThroughputExceededException", "ThrottlingException"])
def test_busy_service_is_asked_again_and_a_refused_condition_is_not(
    tables: Tables, service: Stubber, code: str
) -> None:
    service.add_client_error("put_item", code)
    service.add_response("put_item", {}, PUT)
    assert tables.put([PUT]) == [True]
    service.add_client_error("put_item", code)
    service.add_client_error("put_item", "ConditionalCheckFailedException")
    assert tables.put([PUT]) == [False]


def test_service_that_stays_busy_is_an_outage(tables: Tables, service: Stubber) -> None:
    for _ in range(BUSY_ATTEMPTS):
        service.add_client_error("put_item", "ThrottlingException")
    with pytest.raises(StoreUnavailable, match=f"too busy {BUSY_ATTEMPTS} times"):
        tables.put([PUT])


@pytest.mark.parametrize("code", ["InternalServerError", "AccessDeniedException", "ResourceNotFoundException"])
def test_other_refusals_end_the_call_at_once_and_tell_no_key(tables: Tables, service: Stubber, code: str) -> None:
    service.add_client_error("put_item", code, "c-marked is not yours")
    with pytest.raises(StoreUnavailable, match=code) as caught:
        tables.put([PUT])
    assert "c-marked" not in str(caught.value)


def test_lost_answer_is_not_sent_again_by_default() -> None:
    for attempts in (1, 3):
        made = connect_tables("eu-west-1", attempts=attempts)
        config = made.client.meta.config
        assert config.retries == {"total_max_attempts": attempts, "mode": "standard"}
        assert (config.connect_timeout, config.read_timeout) == (dynamodb_tables.CONNECT_S, dynamodb_tables.READ_S)
        made.close()


def test_after_a_failure_nothing_more_is_sent_and_nothing_is_under_way(tables: Tables) -> None:
    sent: list[str] = []
    under_way = threading.Semaphore(0)

    def put(**put: Any) -> dict[str, Any]:
        key = put["Item"]["entity_id"]["S"]
        sent.append(key)
        if key == "0":
            under_way.release()
            raise ReadTimeoutError(endpoint_url="x")
        under_way.acquire(timeout=10)
        sent.append("done")
        return {}

    tables.client.put_item = put
    with pytest.raises(StoreUnavailable, match="ReadTimeoutError"):
        tables.put([raise_time("t", item(str(number), {}, 0)) for number in range(50)])
    assert len(sent) <= 5
    assert sent.count("done") == len(set(sent) - {"0", "done"})


def test_answers_come_in_the_order_of_the_puts(tables: Tables) -> None:
    def put(**put: Any) -> dict[str, Any]:
        if int(put["Item"]["entity_id"]["S"]) % 3:
            return {}
        raise tables.client.exceptions.ConditionalCheckFailedException(
            {"Error": {"Code": "ConditionalCheckFailedException"}}, "PutItem"
        )

    tables.client.put_item = put
    assert tables.put([raise_time("t", item(str(n), {}, 0)) for n in range(40)]) == [n % 3 > 0 for n in range(40)]
    assert tables.put([]) == []


def test_missing_table_that_may_not_be_created_is_told_by_name(tables: Tables, service: Stubber) -> None:
    service.add_client_error("describe_table", "ResourceNotFoundException")
    service.add_client_error("create_table", "AccessDeniedException")
    with pytest.raises(InvalidStoreConfig, match=r"table fraud\.x is missing .*AccessDenied"):
        tables.create(["fraud.x"])


def test_table_that_exists_is_left_alone_and_one_made_meanwhile_is_waited_for(tables: Tables, service: Stubber) -> None:
    service.add_response("describe_table", {"Table": {"TableStatus": "ACTIVE"}})
    service.add_client_error("describe_table", "ResourceNotFoundException")
    service.add_client_error("create_table", "ResourceInUseException")
    service.add_response("describe_table", {"Table": {"TableStatus": "ACTIVE"}}, {"TableName": "late"})
    tables.create(["there", "late"])
    service.add_client_error("delete_table", "ResourceNotFoundException")
    tables.delete(["gone"])
