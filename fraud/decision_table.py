"""The decision log as a table: its columns, a row out of a logged line, and the line's fields out of a row.

Whoever delivers decisions (the scorer's stream, the shipper of logs on disk) and whoever declares the table takes the
columns from here, so that a row fits wherever it comes from. A line of before a column was there has null in it.
"""

import math
import struct
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from fraud.transaction import Transaction

Scalar = Literal["string", "bigint", "double", "boolean"]


@dataclass(frozen=True)
class Array:
    """Many of one kind."""

    of: "Kind"


@dataclass(frozen=True)
class Lookup:
    """From a name to one kind."""

    of: Scalar


@dataclass(frozen=True)
class Record:
    """Named parts."""

    parts: "tuple[Column, ...]"


Kind = Scalar | Array | Lookup | Record


@dataclass(frozen=True)
class Column:
    """A column: its name and what it holds."""

    name: str
    kind: Kind


_WHOLE: Final = frozenset({"amount_minor", "event_time_ms", "merchant_category"})
_REAL: Final = frozenset({"latitude", "longitude"})


def _transaction_kind(name: str) -> Scalar:
    if name == "authorised":
        return "boolean"
    return "bigint" if name in _WHOLE else "double" if name in _REAL else "string"


COLUMNS: Final = (
    Column("decision_id", "string"),
    Column("decided_at_ms", "bigint"),
    Column("latency_ms", "double"),
    Column("outcome", "string"),
    Column("scored_outcome", "string"),
    Column("score", "double"),
    Column("tier", "string"),
    Column("segment", "string"),
    Column("override", "string"),
    Column("propensity", "double"),
    Column("reasons", Array(Record((Column("code", "string"), Column("text", "string"), Column("weight", "double"))))),
    Column("model_version", "string"),
    Column("policy_version", "string"),
    Column("missing", Array("string")),
    Column("stale", Array("string")),
    Column("revisions", Lookup("bigint")),
    Column("times_ms", Lookup("bigint")),
    Column("transaction", Record(tuple(Column(n, _transaction_kind(n)) for n in Transaction.__struct_fields__))),
    Column("features", "string"),
    Column("vector", Array("double")),
)
"""``revisions`` and ``times_ms`` are the ages of what was read: changes behind each entity's state, event time of each
view (absent: never written). ``features`` is the digest of the names of ``vector``, whose missing values are null."""


def hive_type(kind: Kind) -> str:
    """Return a kind as Hive, and so Glue and Athena, spell it.

    Examples
    --------
    >>> hive_type(COLUMNS[10].kind)
    'array<struct<code:string,text:string,weight:double>>'
    >>> hive_type(Lookup("bigint"))
    'map<string,bigint>'
    """
    if isinstance(kind, Array):
        return f"array<{hive_type(kind.of)}>"
    if isinstance(kind, Lookup):
        return f"map<string,{kind.of}>"
    if isinstance(kind, Record):
        return f"struct<{','.join(f'{part.name}:{hive_type(part.kind)}' for part in kind.parts)}>"
    return kind


def table_row(logged: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a logged decision.

    Parameters
    ----------
    logged
        A line of the log, decoded.

    Raises
    ------
    ValueError
        It is no decision: without an id or a time, or its vector is none.
    """
    if type(logged.get("decision_id")) is not str or type(logged.get("decided_at_ms")) is not int:
        raise ValueError("a line has no decision_id or no decided_at_ms")
    row = {column.name: logged.get(column.name) for column in COLUMNS}
    row["vector"] = _numbers(str(row["vector"] or ""))
    for name in ("revisions", "times_ms"):
        row[name] = {key: value for key, value in (row[name] or {}).items() if value is not None}
    return row


def _numbers(packed: str) -> list[float | None]:
    try:
        data = b64decode(packed, validate=True)
        numbers = struct.unpack(f"<{len(data) // 8}d", data)
    except (ValueError, struct.error):
        raise ValueError("a line's vector is none") from None
    return [None if math.isnan(number) else number for number in numbers]


def logged_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the line of a row held: what :func:`table_row` was given, but for what was null there.

    Parameters
    ----------
    row
        By column; lookups also as pairs, as Parquet readers give them.

    Raises
    ------
    ValueError
        It has no vector or no transaction.

    Examples
    --------
    >>> vector = "AAAAAAAA8D8AAAAAAAD4fw=="
    >>> row = table_row({"decision_id": "d", "decided_at_ms": 1, "vector": vector, "transaction": {"ip": "i"}})
    >>> logged_fields(row)["vector"].hex(), logged_fields(row)["transaction"]
    ('000000000000f03f000000000000f87f', {'ip': 'i'})
    """
    vector, transaction = row.get("vector"), row.get("transaction")
    if vector is None or transaction is None:
        raise ValueError("a row has no vector or no transaction")
    fields = {column.name: row[column.name] for column in COLUMNS if row.get(column.name) is not None}
    numbers = [math.nan if number is None else number for number in vector]
    fields["vector"] = struct.pack(f"<{len(numbers)}d", *numbers)
    for name in ("revisions", "times_ms"):
        fields[name] = dict(row.get(name) or ())
    for name in ("reasons", "missing", "stale"):
        fields.setdefault(name, ())
    known = Transaction.__struct_fields__
    fields["transaction"] = {name: transaction[name] for name in known if transaction.get(name) is not None}
    return fields
