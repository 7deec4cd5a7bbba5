"""The published schema: OpenAPI made from the same types that parse requests and encode answers.

What it calls valid is decided, what it calls invalid is refused; ``docs/openapi.json`` is the one of a deployment in
euros, ``python -m serving schema`` prints that of the settings.
"""

from typing import Any, Final

import msgspec

from fraud.transaction import (
    MAX_AMOUNT_MINOR,
    MAX_IDENTIFIER,
    MAX_TIME_MS,
    MIN_TIME_MS,
    Transaction,
)
from serving.answers import Answer, ErrorAnswer, Pong
from serving.requests import MAX_BODY_BYTES, MAX_BUDGET_MS, MAX_ROWS

Schema = dict[str, Any]

_REF: Final = "#/components/schemas/{name}"
_TOKEN: Final = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_IDENTIFIER,
    "pattern": "^[^\\x00-\\x1f\\x7f]+$",
    "description": "A token of printable characters. What looks like a card number (12 to 19 digits that pass the Luhn "
    "check) is refused.",
}
_NULL: Final = {"type": "null"}
_IDENTIFIERS: Final = ("transaction_id", "card_id", "merchant_id")
_BOUNDS: Final[dict[str, Schema]] = {
    "amount_minor": {"minimum": 1, "maximum": MAX_AMOUNT_MINOR},
    "event_time_ms": {"minimum": MIN_TIME_MS, "exclusiveMaximum": MAX_TIME_MS},
    "merchant_category": {"minimum": 0, "maximum": 9999},
    "country": {"pattern": "^[A-Z]{2}$", "minLength": 2, "maxLength": 2},
}
_PLACE: Final = {
    "anyOf": [
        {
            "properties": {
                "latitude": {"type": "number", "minimum": -90, "maximum": 90},
                "longitude": {"type": "number", "minimum": -180, "maximum": 180},
            },
            "required": ["latitude", "longitude"],
        },
        {"properties": {"latitude": _NULL, "longitude": _NULL}},
    ]
}
"""Latitude and longitude come together or not at all."""

_REFUSALS: Final = {
    "400": "The body is no JSON, or the request no HTTP",
    "413": "The body is too long; the connection is closed",
    "415": "The content type is not JSON",
    "422": "The transaction or a header is refused; the field is named",
}
_RETRY: Final = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
_ALLOW: Final = {"Allow": {"description": "The methods that this path knows.", "schema": {"type": "string"}}}


def openapi(currency: str) -> Schema:
    """Return the OpenAPI description of the container of a deployment in ``currency``."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tollgate scorer", "version": "1", "description": f"Bodies up to {MAX_BODY_BYTES} bytes."},
        "paths": {
            "/invocations": {"post": _invocations()},
            "/ping": _gets("Ready", _json("A model is loaded", _ref("Pong")), busy="Draining: send requests elsewhere"),
            "/metrics": _gets("Prometheus text", {"description": "Metrics", "content": {"text/plain": {}}}),
            "/schema": _gets("This document", _json("OpenAPI", {"type": "object"})),
        },
        "components": {"schemas": _components(currency)},
    }


def _invocations() -> Schema:
    row = {"anyOf": [_ref("Transaction"), {"description": "Anything else gets its own error, in its place."}]}
    rows = {"type": "array", "items": row, "maxItems": MAX_ROWS}
    batch = {
        "type": "object",
        "properties": {"transactions": rows},
        "required": ["transactions"],
        "additionalProperties": False,
    }
    request = {"oneOf": [_ref("Transaction"), rows, batch]}
    decided = {"oneOf": [_ref("Answer"), _ref("BatchAnswer")]}
    return {
        "summary": "Decide one transaction, or each of a batch",
        "parameters": _PARAMETERS,
        "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
        "responses": {
            "200": _json("Decided", decided),
            **{status: _error(text) for status, text in _REFUSALS.items()},
            **_always(),
            "503": _error("Waited too long here, or too many connections: send it again", _RETRY),
        },
    }


def _gets(summary: str, answer: Schema, *, busy: str = "Too many connections") -> Schema:
    responses = {"200": answer, **_always(), "503": _json(busy, {"anyOf": [_ref("Pong"), _ref("ErrorAnswer")]})}
    bare = {status: {"description": found["description"]} for status, found in responses.items()}
    return {
        "get": {"summary": summary, "responses": responses},
        "head": {"summary": f"{summary}, without the body", "responses": bare},
    }


def _always() -> Schema:
    return {
        "404": _error("No such path"),
        "405": _error("No such method on this path", _ALLOW),
        "500": _error("Failed here; it may be sent again"),
    }


def _components(currency: str) -> Schema:
    _, components = msgspec.json.schema_components((Transaction, Answer, ErrorAnswer, Pong), ref_template=_REF)
    transaction = components["Transaction"]
    properties = transaction["properties"]
    properties |= dict.fromkeys(_IDENTIFIERS, _TOKEN)
    properties |= {name: {"anyOf": [_TOKEN, _NULL], "default": None} for name in ("device_id", "ip")}
    properties["currency"] = {"const": currency}
    for name, bounds in _BOUNDS.items():
        properties[name] |= bounds
    components["Transaction"] = transaction | _PLACE
    components["BatchAnswer"] = _BATCH_ANSWER
    return components


def _ref(name: str) -> Schema:
    return {"$ref": _REF.format(name=name)}


def _json(text: str, schema: Schema) -> Schema:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _error(text: str, headers: Schema | None = None) -> Schema:
    return _json(text, _ref("ErrorAnswer")) | ({"headers": headers} if headers else {})


_BATCH_ANSWER: Final = {
    "type": "object",
    "description": "One result per row, in order: a decision, or the error of that row alone.",
    "properties": {"results": {"type": "array", "items": {"oneOf": [_ref("Answer"), _ref("ErrorAnswer")]}}},
    "required": ["results"],
}
_PARAMETERS: Final = [
    {
        "name": "explain",
        "in": "query",
        "description": "`1` or `true`: reasons for approvals too.",
        "schema": {"type": "string"},
    },
    {
        "name": "X-Amzn-SageMaker-Inference-Id",
        "in": "header",
        "description": "Becomes the decision's id; in a batch with `-` and the row's number after it. Empty is none.",
        "schema": {"type": "string", "pattern": "^[!-~]{0,64}$", "maxLength": 64},
    },
    {
        "name": "X-Amzn-SageMaker-Custom-Attributes",
        "in": "header",
        "description": f"Separated by commas: `explain`; `budget_ms=N`, 1 to {MAX_BUDGET_MS}, the time this request "
        "has instead of the deployment's. Others are ignored.",
        "schema": {"type": "string"},
    },
]
