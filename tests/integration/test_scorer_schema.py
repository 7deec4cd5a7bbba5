"""The published schema against a running scorer: what it calls valid is decided, what not is refused by type."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks

from tests.support.bundles import write_test_bundle
from tests.support.scorers import ROOT, Scorer, payment, start_scorer

load_all_checks()
DOCUMENT = ROOT / "docs" / "openapi.json"
METHODS = {"/invocations": {"POST"}, "/metrics": {"GET", "HEAD"}, "/ping": {"GET", "HEAD"}, "/schema": {"GET", "HEAD"}}
bounded = settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def published() -> Any:
    schema = schemathesis.openapi.from_dict(json.loads(DOCUMENT.read_text()))
    schema.config.generation.update(codec="ascii", allow_x00=False)
    return schema


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scorer]:
    with start_scorer(write_test_bundle(tmp_path_factory.mktemp("schema") / "model"), 9) as running:
        yield running
        assert running.events("request_failed") == []


VALID, INVALID = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
OPERATIONS = [(path, name.lower(), VALID) for path, methods in METHODS.items() for name in sorted(methods)]


@pytest.mark.parametrize(("path", "method", "mode"), [*OPERATIONS, ("/invocations", "post", INVALID)])
def test_the_scorer_does_what_the_published_schema_says(
    scorer: Scorer, path: str, method: str, mode: GenerationMode
) -> None:
    operation = published()[path][method]
    seen: set[int] = set()

    @bounded
    @given(case=operation.as_strategy(generation_mode=mode))
    def conforms(case: Any) -> None:
        response = case.call(base_url=f"http://127.0.0.1:{scorer.port}")
        seen.add(response.status_code)
        case.validate_response(response)

    conforms()
    assert seen & ({200} if mode is VALID else {400, 422})


@pytest.mark.parametrize(
    ("path", "method"),
    [
        (path, method)
        for path, known in METHODS.items()
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND")
        if method not in known
    ],
)
def test_a_method_that_a_path_does_not_know_is_answered_with_those_it_does(
    scorer: Scorer, path: str, method: str
) -> None:
    listed = {name.upper() for name in json.loads(DOCUMENT.read_text())["paths"][path]}
    status, headers = scorer.heads(method, path)
    assert status == 405
    assert {name.strip() for name in headers["allow"].split(",")} == METHODS[path] == listed


def test_whole_numbers_may_be_written_with_a_fraction(scorer: Scorer) -> None:
    plain = scorer.decide(payment(1))
    body = json.loads(json.dumps({field: getattr(payment(1), field) for field in payment(1).__struct_fields__}))
    written = body | {name: float(body[name]) for name in ("amount_minor", "event_time_ms", "merchant_category")}
    status, answer = scorer.invoke(json.dumps(written).encode())
    assert (status, answer["score"]) == (200, plain["score"])
    status, answer = scorer.invoke(json.dumps(written | {"amount_minor": 12.5}).encode())
    assert (status, answer["error"]["field"]) == (422, "amount_minor")
