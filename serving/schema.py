"""The published schema: OpenAPI made from the same types that parse requests and encode answers."""

from typing import Any, Final

import msgspec

from fraud.transaction import (
    MAX_AMOUNT_MINOR,
    MAX_IDENTIFIER,
    MAX_TIME_MS,
    MIN_TIME_MS,
    Transaction,
)
from serving.answers import Answer, ErrorAnswer
from serving.requests import MAX_BODY_BYTES, MAX_ROWS

_REF: Final = "#/components/schemas/{name}"
_BOUNDS: Final[dict[str, dict[str, Any]]] = {
    **{name: {"minLength": 1, "maxLength": MAX_IDENTIFIER} for name in ("transaction_id", "card_id", "merchant_id")},
    "amount_minor": {"minimum": 1, "maximum": MAX_AMOUNT_MINOR},
    "currency": {"pattern": "^[A-Z]{3}$"},
    "event_time_ms": {"minimum": MIN_TIME_MS, "exclusiveMaximum": MAX_TIME_MS},
    "merchant_category": {"minimum": 0, "maximum": 9999},
    "country": {"pattern": "^[A-Z]{2}$"},
    "latitude": {"minimum": -90, "maximum": 90},
    "longitude": {"minimum": -180, "maximum": 180},
}


def openapi() -> dict[str, Any]:
    """Return the OpenAPI description of the container."""
    _, components = msgspec.json.schema_components((Transaction, Answer, ErrorAnswer), ref_template=_REF)
    for name, bounds in _BOUNDS.items():
        components["Transaction"]["properties"][name] |= bounds
    components["BatchAnswer"] = _BATCH_ANSWER
    transactions = {"type": "array", "items": _ref("Transaction"), "maxItems": MAX_ROWS}
    batch = {
        "type": "object",
        "properties": {"transactions": transactions},
        "required": ["transactions"],
        "additionalProperties": False,
    }
    request = {"oneOf": [_ref("Transaction"), transactions, batch]}
    refused = {code: _response(text, _ref("ErrorAnswer")) for code, text in _REFUSALS.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tollgate scorer", "version": "1", "description": f"Bodies up to {MAX_BODY_BYTES} bytes."},
        "paths": {
            "/invocations": {
                "post": {
                    "summary": "Decide one transaction, or each of a batch",
                    "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
                    "responses": {
                        "200": _response("Decided", {"oneOf": [_ref("Answer"), _ref("BatchAnswer")]}),
                        **refused,
                    },
                }
            },
            "/ping": {"get": {"summary": "Ready", "responses": {"200": {"description": "A model is loaded"}}}},
            "/metrics": {"get": {"summary": "Prometheus text", "responses": {"200": {"description": "Metrics"}}}},
            "/schema": {"get": {"summary": "This document", "responses": {"200": {"description": "OpenAPI"}}}},
        },
        "components": {"schemas": components},
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(name=name)}


_BATCH_ANSWER: Final = {
    "type": "object",
    "description": "One result per row, in order: a decision, or the error of that row alone.",
    "properties": {"results": {"type": "array", "items": {"oneOf": [_ref("Answer"), _ref("ErrorAnswer")]}}},
    "required": ["results"],
}
_REFUSALS: Final = {
    "400": "The body is no JSON",
    "413": "The body is too long",
    "415": "The content type is not JSON",
    "422": "The transaction is refused; the field is named",
}


def _response(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}
