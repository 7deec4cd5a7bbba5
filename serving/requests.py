"""What a request may be: checked here, answered as a typed 4xx, before anything else is touched."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from fraud.errors import InvalidTransaction, TollgateError
from fraud.transaction import Transaction, parse_transaction

MAX_BODY_BYTES: Final = 256 * 1024
MAX_ROWS: Final = 1000
MAX_BUDGET_MS: Final = 60_000
_MAX_REASON: Final = 200
_INFERENCE_ID: Final = re.compile(r"[\x21-\x7e]{1,64}")
_QUOTED_FIELDS: Final = tuple(f'"{name}"'.encode() for name in Transaction.__struct_fields__)
_SPACES: Final = b" \t\r\n"


class RequestRefused(TollgateError):
    """A request was refused, with an HTTP status, the field at fault and the reason."""

    code = "request_refused"

    def __init__(self, status: int, code: str, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.status = status
        self.error_code = code
        self.field = field
        self.reason = reason[:_MAX_REASON]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the headers and the query ask for.

    Parameters
    ----------
    inference_id
        The caller's own id of the inference; empty for none.
    explain
        Give reasons for approvals too.
    budget_ms
        Of this request, instead of the deployment's; null for that.
    """

    inference_id: str
    explain: bool
    budget_ms: int | None


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    transactions: list[msgspec.Raw]


_rows_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_batch_decoder = msgspec.json.Decoder(_Batch)


def read_headers(headers: Sequence[tuple[bytes, bytes]], query: bytes) -> Asked:
    """Check the headers of an invocation and return what they ask for; names are lower case.

    Raises
    ------
    RequestRefused
        415 for another content type than JSON, 413 for a body announced as too long, 422 for an inference id or a
        budget that is none.
    """
    content_type, inference_id, explain = b"", "", query in (b"explain", b"explain=1", b"explain=true")
    budget_ms: int | None = None
    for name, value in headers:
        if name == b"content-type":
            content_type = value
        elif name == b"content-length":
            if len(value) > 12 or int(value) > MAX_BODY_BYTES:
                raise too_large()
        elif name == b"x-amzn-sagemaker-inference-id":
            inference_id = value.decode("latin-1")
        elif name == b"x-amzn-sagemaker-custom-attributes":
            attributes = [attribute.strip() for attribute in value.split(b",")]
            explain = explain or b"explain" in attributes
            budget_ms = _budget_in(attributes)
    if content_type.partition(b";")[0].strip().lower() != b"application/json":
        raise RequestRefused(415, "unsupported_media_type", "content-type", "send application/json")
    if inference_id and not _INFERENCE_ID.fullmatch(inference_id):
        raise RequestRefused(422, "invalid_header", "inference-id", "is not 1 to 64 printable ASCII characters")
    return Asked(inference_id, explain, budget_ms)


def _budget_in(attributes: Sequence[bytes]) -> int | None:
    for attribute in attributes:
        name, _, text = attribute.partition(b"=")
        if name == b"budget_ms":
            if not (text.isdigit() and len(text) <= 5 and 1 <= int(text) <= MAX_BUDGET_MS):
                raise RequestRefused(422, "invalid_header", "budget", f"is not 1 to {MAX_BUDGET_MS} milliseconds")
            return int(text)
    return None


def announces_too_much(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Return whether a request's body is longer than allowed by its own word, or of a length it does not tell."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and (len(value) > 12 or int(value) > MAX_BODY_BYTES))
        for name, value in headers
    )


def too_large() -> RequestRefused:
    """Return the refusal of a body that is too long."""
    return RequestRefused(413, "body_too_large", "body", f"is longer than {MAX_BODY_BYTES} bytes")


def parse_one(body: bytes, *, currency: str) -> Transaction:
    """Return the one transaction in ``body``.

    Raises
    ------
    RequestRefused
        400 when it is no JSON, 422 when it is no transaction of ours.
    """
    try:
        transaction = parse_transaction(body, currency=currency)
    except InvalidTransaction as error:
        broken = error.field == "body" and error.reason.startswith("not valid JSON")
        code = "invalid_json" if broken else error.code
        raise RequestRefused(400 if broken else 422, code, error.field, error.reason) from None
    if b"\\" in body or any(body.count(name) > 1 for name in _QUOTED_FIELDS):
        _refuse_repeated_names(body)
    return transaction


def is_batch(body: bytes) -> bool:
    """Return whether ``body`` is meant as many transactions: an array, or an object of ``transactions``."""
    start = body.lstrip(_SPACES)
    return start[:1] == b"[" or (start[:1] == b"{" and start[1:].lstrip(_SPACES).startswith(b'"transactions"'))


def split_rows(body: bytes) -> list[bytes]:
    """Return the JSON of each transaction of a batch, in order, not yet parsed.

    Raises
    ------
    RequestRefused
        It is no JSON, no batch, or too long.
    """
    try:
        is_array = body.lstrip(_SPACES)[:1] == b"["
        rows = _rows_decoder.decode(body) if is_array else _batch_decoder.decode(body).transactions
    except msgspec.ValidationError as error:
        raise RequestRefused(422, "invalid_batch", "transactions", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestRefused(400, "invalid_json", "body", f"not valid JSON ({error})") from None
    if len(rows) > MAX_ROWS:
        raise RequestRefused(422, "invalid_batch", "transactions", f"has {len(rows)} rows, not 0..{MAX_ROWS}")
    return [bytes(row) for row in rows]


def _refuse_repeated_names(body: bytes) -> None:
    """Refuse an object that names a field twice: two readers could take two different amounts from it."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        for name in names:
            if names.count(name) > 1:
                raise RequestRefused(422, "invalid_transaction", name, "is given more than once")

    json.loads(body, object_pairs_hook=check)
