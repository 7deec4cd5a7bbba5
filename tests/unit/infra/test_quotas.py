"""Quotas against plans. botocore's Stubber answers: it holds requests and answers to AWS's models; moto has no list."""

import dataclasses
import shlex
from collections.abc import Iterator
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.exceptions import ConnectTimeoutError
from botocore.stub import Stubber
from botocore.validate import ParamValidator
from rich.console import Console

from infra.environment import Environment, read_environment
from infra.quotas import Quotas
from infra.screens import show_advice

PROD = read_environment("prod")
FIRST, SECOND, THIRD = PROD.hosting.instance_types
MOST = PROD.scaling.limits.max_instances


def listed(**instances: float) -> list[dict[str, Any]]:
    """Return quotas of types (``c7i_large=60``) among others of the same service and type."""
    quotas = []
    for number, (kind, value) in enumerate(instances.items()):
        name = f"ml.{kind.replace('_', '.')}"
        for use, held in (("processing job usage", 1.0), ("endpoint usage", value)):
            code = f"L-{number}{'E' if use.startswith('e') else 'P'}"
            quotas.append({"QuotaName": f"{name} for {use}", "QuotaCode": code, "Value": held, "Adjustable": True})
    return quotas


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return boto3.client("service-quotas", region_name="eu-west-1")


@pytest.fixture
def stub(client: Any) -> Iterator[Stubber]:
    with Stubber(client) as stub:
        yield stub
        stub.assert_no_pending_responses()


def answer(stub: Stubber, *pages: list[dict[str, Any]]) -> None:
    for number, page in enumerate(pages):
        asked = {"ServiceCode": "sagemaker", **({"NextToken": f"page{number}"} if number else {})}
        more = {"NextToken": f"page{number + 1}"} if number + 1 < len(pages) else {}
        stub.add_response("list_service_quotas", {"Quotas": page, **more}, asked)


def with_types(*types: str) -> Environment:
    return dataclasses.replace(PROD, hosting=dataclasses.replace(PROD.hosting, instance_types=types))


def command(said: str, operation: str) -> list[str]:
    """Return the words of the command that a sentence ends with."""
    before, words, after = said.partition(f"aws service-quotas {operation} ")
    assert before.endswith("with: ")
    return shlex.split(words + after)


def test_quotas_for_twice_the_largest_fleet_are_not_spoken_of(client: Any, stub: Stubber) -> None:
    answer(stub, listed(c7i_large=2.0 * MOST, c6i_large=2.0 * MOST, m7i_large=500))
    assert Quotas(client, PROD).advice() == ()


def test_quota_below_the_largest_fleet_is_said_with_the_command_that_asks_for_more(client: Any, stub: Stubber) -> None:
    answer(stub, listed(c7i_large=MOST - 1.0))
    (said,) = Quotas(client, with_types(FIRST)).advice()
    assert f"'{FIRST} for endpoint usage' is {MOST - 1}, too small for scaling.max_instances={MOST} and for a" in said
    words = command(said, "request-service-quota-increase")
    asked = dict(zip(words[3::2], words[4::2], strict=True))
    assert asked == {
        "--region": "eu-west-1",
        "--service-code": "sagemaker",
        "--quota-code": "L-0E",
        "--desired-value": str(2 * MOST),
    }
    known = botocore.session.get_session().get_service_model("service-quotas")
    request = {"ServiceCode": "sagemaker", "QuotaCode": "L-0E", "DesiredValue": 2.0 * MOST}
    shape = known.operation_model("RequestServiceQuotaIncrease").input_shape
    assert ParamValidator().validate(request, shape).generate_report() == ""


@pytest.mark.parametrize(("quota", "fleet"), [(MOST, MOST // 2), (2 * MOST - 1, MOST - 1)])
def test_quota_for_the_fleet_alone_names_the_largest_rollout(
    client: Any, stub: Stubber, quota: int, fleet: int
) -> None:
    answer(stub, listed(c7i_large=quota))
    (said,) = Quotas(client, with_types(FIRST)).advice()
    assert f"is {quota}, too small for a rollout of more than {fleet} instances (old and new side by side" in said


def test_each_type_is_looked_for_on_every_page(client: Any, stub: Stubber) -> None:
    answer(stub, listed(c5_large=4), listed(m7i_large=2.0 * MOST), listed(c6i_large=8, c7i_large=7))
    first, second = Quotas(client, PROD).advice()
    assert (f"'{FIRST} for endpoint usage' is 7," in first, f"'{SECOND} for endpoint usage' is 8," in second) == (1, 1)


def test_no_page_is_asked_for_once_all_are_found(client: Any, stub: Stubber) -> None:
    stub.add_response("list_service_quotas", {"Quotas": listed(c7i_large=99), "NextToken": "page1"})
    assert Quotas(client, with_types(FIRST)).advice() == ()


def test_quota_that_is_not_listed_is_aws_default(client: Any, stub: Stubber) -> None:
    answer(stub, listed(c7i_large=99), listed(m7i_large=99))
    (said,) = Quotas(client, PROD).advice()
    assert f"no quota of its own '{SECOND} for endpoint usage', so AWS's default holds" in said
    query = command(said, "list-aws-default-service-quotas")[-1]
    assert query == f"Quotas[?QuotaName=='{SECOND} for endpoint usage']"


def test_small_environment_is_held_to_its_own_limits(client: Any, stub: Stubber) -> None:
    dev = read_environment("dev")
    answer(stub, listed(c7i_large=8, c6i_large=8, m7i_large=7))
    (said,) = Quotas(client, dev).advice()
    assert f"'{THIRD} for endpoint usage' is 7, too small for a rollout of more than 3 instances" in said


@pytest.mark.parametrize(
    ("code", "message", "told"),
    [
        ("AccessDeniedException", "User: x is not authorized", "(AccessDeniedException: User: x is not authorized)"),
        ("TooManyRequestsException", "slow down", "(TooManyRequestsException: slow down)"),
        ("500", "<!doctype html>\n<html>", "(500)"),
    ],
)
def test_quotas_that_nobody_may_see_stop_nothing(
    client: Any, stub: Stubber, code: str, message: str, told: str
) -> None:
    stub.add_client_error("list_service_quotas", code, message)
    (said,) = Quotas(client, PROD).advice()
    assert f"the quotas of {FIRST}, {SECOND}, {THIRD} were not looked up {told}" in said
    assert "servicequotas:ListServiceQuotas" in said


def test_service_that_does_not_answer_stops_nothing(client: Any) -> None:
    def silence(**_: Any) -> None:
        raise ConnectTimeoutError(endpoint_url="https://servicequotas")

    client.meta.events.register("before-call.service-quotas", silence)
    (said,) = Quotas(client, PROD).advice()
    assert "were not looked up (Connect timeout on endpoint URL" in said


def test_advice_is_one_line_to_be_copied(client: Any, stub: Stubber, capsys: pytest.CaptureFixture[str]) -> None:
    answer(stub, listed(c7i_large=1, m7i_large=99))
    advice = Quotas(client, PROD).advice()
    show_advice(Console(width=40), advice)
    assert capsys.readouterr().out.splitlines() == [f"note: {said}" for said in advice]
    assert len(advice) == 2
