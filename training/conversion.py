"""From a batch of somebody's rows to rows of the transaction log, each taken whole or refused with its reason.

A row is refused for the first thing that is wrong with it. What columns cannot say column-wise is decided by
:func:`fraud.transaction.check_transaction`, see :mod:`training.row_rules`.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud.transaction import CHANNELS, MAX_AMOUNT_MINOR, MAX_TIME_MS, MIN_TIME_MS
from training.mapping import Code, Flag, Identifier, Mapping, Moment
from training.rejects import Refusal, shown
from training.row_rules import REASONS, broken_rules, card_numbers, doubtful, matches
from training.source_columns import NEVER, numbers, texts, times_ms
from training.source_files import Batch
from training.tokens import TokenKey
from training.transaction_log import TRANSACTIONS_SCHEMA, moments

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_MOMENT: Final = pa.timestamp("us", "UTC")
RUN_SCHEMA: Final = pa.schema(
    [
        *TRANSACTIONS_SCHEMA,
        pa.field("is_fraud", pa.bool_(), nullable=False),
        pa.field("label_timestamp", _MOMENT),
        pa.field("fraud_type", pa.string()),
        pa.field("raised", pa.bool_(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
    ]
)
"""A row of the log with what becomes of its label, whether its amount was raised to one unit, and where it stood."""

_SPREADSHEET: Final = r"^\d(\.\d+)?[eE]\+\d+$"


@dataclass(frozen=True)
class Converted:
    """What became of a batch: rows of :data:`RUN_SCHEMA`, and the refused ones."""

    rows: pa.Table
    refused: tuple[Refusal, ...]


def convert(batch: Batch, mapping: Mapping, key: TokenKey | None, *, first: int, label_delay_ms: int) -> Converted:
    """Return the batch as rows of the log.

    Parameters
    ----------
    key
        Makes the card a token; without it a row whose card looks like a card number is refused.
    first
        Rows before this batch in all files, for derived ids.
    label_delay_ms
        How long after its transaction a fraud becomes known, where the data do not say.
    """
    return _Conversion(batch, mapping, key).run(first, label_delay_ms)


class _Conversion:
    """One batch: fields are made one after the other, and each may refuse rows."""

    def __init__(self, batch: Batch, mapping: Mapping, key: TokenKey | None) -> None:
        self._batch = batch
        self._mapping = mapping
        self._key = key
        self._count = len(batch.row)
        self._good = np.ones(self._count, np.bool_)
        self._refused: list[Refusal] = []

    def run(self, first: int, label_delay_ms: int) -> Converted:
        """Make every field, then put the rows to the rules."""
        mapping, count = self._mapping, self._count
        amount, raised = self._amount()
        event = self._time("event_time_ms", mapping.event_time)
        columns: dict[str, Any] = {
            "transaction_id": self._row_id(first),
            "card_id": self._identifier("card_id", mapping.card_id),
            "merchant_id": self._identifier("merchant_id", mapping.merchant_id),
            "device_id": self._identifier("device_id", mapping.device_id, needed=False),
            "ip": self._identifier("ip", mapping.ip, needed=False),
            "amount_minor": pa.array(amount),
            "currency": self._currency(),
            "event_timestamp": moments(np.where(event == NEVER, 0, event)),
            "created_timestamp": moments(self._arrival(event)),
            "channel": self._code("channel", mapping.channel, pa.string()),
            "merchant_category": self._code("merchant_category", mapping.merchant_category, pa.int32()),
            "country": self._code("country", mapping.country, pa.string()),
            "latitude": self._degrees("latitude"),
            "longitude": self._degrees("longitude"),
            "authorised": pa.nulls(count, pa.bool_()) if mapping.authorised is None else self._flag(mapping.authorised),
        }
        columns |= self._label(event, label_delay_ms)
        columns |= {"raised": pa.array(raised), "file": pa.repeat(self._batch.file, count)}
        columns["row"] = pa.array(self._batch.row)
        whole = pa.table([columns[name] for name in RUN_SCHEMA.names], names=RUN_SCHEMA.names)
        self._check(whole)
        return Converted(whole.filter(pa.array(self._good)).cast(RUN_SCHEMA), tuple(self._refused))

    def _refuse(self, wrong: BoolArray, field: str, columns: tuple[str, ...], reason: str) -> None:
        """Refuse rows that were not refused before."""
        places = np.flatnonzero(wrong & self._good)
        if not len(places):
            return
        taken = pa.array(places)
        parts = [shown(self._batch.columns[name].take(taken)) for name in columns if name in self._batch.columns]
        said: list[str | None] = [None] * len(places)
        if parts:
            said = [" ".join(part for part in row if part) or None for row in zip(*parts, strict=True)]
        name = ", ".join(columns)
        numbers_of = self._batch.row[places].tolist()
        self._refused += [Refusal(row, name, field, reason, value) for row, value in zip(numbers_of, said, strict=True)]
        self._good[places] = False

    def _text(self, name: str) -> Any:
        return texts(self._batch.columns[name], self._mapping.file.missing)

    def _row_id(self, first: int) -> Any:
        rule = self._mapping.transaction_id
        if rule.columns:
            plain = Identifier(columns=rule.columns, separator=rule.separator, prefix=rule.prefix, width=rule.width)
            return self._identifier("transaction_id", plain)
        digits = pc.utf8_lpad(pa.array(np.arange(first, first + self._count)).cast(pa.string()), rule.width, "0")
        return pc.binary_join_element_wise(rule.prefix, digits, "")

    def _identifier(self, field: str, rule: Identifier | None, *, needed: bool = True) -> Any:
        """Return a column of tokens; parts that are missing are empty, unless all are."""
        if rule is None or (rule.optional and not set(rule.columns) & set(self._batch.columns)):
            return pa.nulls(self._count, pa.string())
        parts = [self._text(name) for name in rule.columns if name in self._batch.columns]
        secret = field == "card_id" and self._key is not None
        known = np.zeros(self._count, np.bool_)
        for part in parts:
            known |= part.is_valid().to_numpy(zero_copy_only=False)
            self._refuse(matches(part, _SPREADSHEET), field, rule.columns, "number in scientific notation")
            if field == "card_id" and not secret:  # others are put to the rule as the tokens they become
                self._refuse(card_numbers(part), field, rule.columns, "card number")
        if needed:
            self._refuse(~known, field, rule.columns, "missing")
        if rule.width:
            parts = [pc.utf8_lpad(part, rule.width, "0") for part in parts]
        text = parts[0] if len(parts) == 1 else pc.binary_join_element_wise(
            *(pc.fill_null(part, "") for part in parts), rule.separator
        )  # fmt: skip
        if secret:
            text = self._tokens(text)
        text = pc.binary_join_element_wise(rule.prefix, text, "") if rule.prefix else text
        return pc.if_else(pa.array(known), text, None)

    def _tokens(self, text: Any) -> Any:
        if self._key is None:
            return text
        distinct = text.dictionary_encode()
        made = [self._key.token(value) for value in distinct.dictionary.to_pylist()]
        return pa.array(made, pa.string()).take(distinct.indices)

    def _amount(self) -> tuple[IntArray, BoolArray]:
        rule, column = self._mapping.amount, (self._mapping.amount.column,)
        values = numbers(
            self._batch.columns[rule.column],
            strip=rule.strip,
            decimal=rule.decimal,
            missing=self._mapping.file.missing,
        )
        self._refuse_unread(np.isnan(values), "amount_minor", rule.column, "no number")
        values = np.nan_to_num(values)
        if rule.unit == "minor":
            self._refuse(values != np.rint(values), "amount_minor", column, "part of a minor unit")
        else:
            values = values * float(10**self._mapping.decimals)
        self._refuse(np.abs(values) > MAX_AMOUNT_MINOR, "amount_minor", column, REASONS["amount_minor"])
        minor = np.rint(np.clip(values, -1.0, MAX_AMOUNT_MINOR)).astype(np.int64)
        raised = (minor < 1) & (values >= 0.0) & (rule.below_one == "raise")
        minor = np.where(raised, 1, minor)
        self._refuse(minor < 1, "amount_minor", column, REASONS["amount_minor"])
        return minor, raised

    def _refuse_unread(self, wrong: BoolArray, field: str, column: str, reason: str) -> None:
        """Refuse what could not be read: as missing where nothing stands."""
        nothing = self._text(column).is_null().to_numpy(zero_copy_only=False)
        self._refuse(wrong & nothing, field, (column,), "missing")
        self._refuse(wrong, field, (column,), reason)

    def _time(self, field: str, moment: Moment) -> IntArray:
        found = self._moment(moment)
        bad = found == NEVER
        if len(moment.columns) == 1:
            self._refuse_unread(bad, field, moment.columns[0], "no time")
        self._refuse(bad, field, moment.columns, "no time")
        self._refuse((found < MIN_TIME_MS) | (found >= MAX_TIME_MS), field, moment.columns, REASONS["event_time_ms"])
        return found

    def _moment(self, moment: Moment) -> IntArray:
        return times_ms([self._batch.columns[name] for name in moment.columns], moment, self._mapping.file.missing)

    def _arrival(self, event: IntArray) -> IntArray:
        moment = self._mapping.arrival
        if moment is None:
            return np.where(event == NEVER, 0, event)
        found = self._time("created_timestamp", moment)
        self._refuse(found < event, "created_timestamp", moment.columns, "known before it happened")
        return np.where(self._good, found, 0)

    def _currency(self) -> Any:
        name = self._mapping.currency_column
        constant = pa.repeat(self._mapping.currency, self._count)
        if name is None:
            return constant
        text = self._text(name)
        same = pc.fill_null(pc.equal(text, self._mapping.currency), fill_value=False).to_numpy(zero_copy_only=False)
        self._refuse_unread(~same, "currency", name, REASONS["currency"])
        return constant

    def _code(self, field: str, code: Code, kind: Any) -> Any:
        """Return a column of codes."""
        if code.column is None:
            return pa.repeat(pa.scalar(code.constant, kind), self._count)
        text = self._text(code.column)
        if not code.values:
            return self._codes_as_they_stand(field, code, text, kind)
        known = pa.array(list(code.values))
        said = pa.array(list(code.values.values()), kind)
        found = said.take(pc.index_in(pc.fill_null(text, ""), value_set=known))
        if code.otherwise is not None:
            return pc.fill_null(found, pa.scalar(code.otherwise, kind))
        self._refuse_unread(found.is_null().to_numpy(zero_copy_only=False), field, code.column, "unknown code")
        return found

    def _codes_as_they_stand(self, field: str, code: Code, text: Any, kind: Any) -> Any:
        name = code.column or ""
        if pa.types.is_integer(kind):
            good = matches(text, r"^\d{1,4}$")
            found = pc.if_else(pa.array(good), text, None).cast(kind)
        elif field == "channel":
            good = pc.is_in(text, pa.array(CHANNELS)).to_numpy(zero_copy_only=False)
            found = text
        else:
            good, found = text.is_valid().to_numpy(zero_copy_only=False), text
        if code.otherwise is not None:
            return pc.if_else(pa.array(good), found, pa.scalar(code.otherwise, kind))
        self._refuse_unread(~good, field, name, "unknown code")
        return found

    def _degrees(self, field: str) -> Any:
        place = self._mapping.place
        if place is None:
            return pa.nulls(self._count, pa.float64())
        name = getattr(place, field)
        values = numbers(self._batch.columns[name], missing=self._mapping.file.missing)
        unread = np.isnan(values) & self._text(name).is_valid().to_numpy(zero_copy_only=False)
        self._refuse(unread, field, (name,), "no number")
        return pa.array(values, from_pandas=True)

    def _flag(self, flag: Flag) -> Any:
        text = pc.fill_null(self._text(flag.column), "")
        yes, no = (pc.is_in(text, pa.array(values, pa.string())) for values in (flag.true, flag.false))
        otherwise = pa.scalar(flag.otherwise, pa.bool_())
        return pc.if_else(yes, pa.scalar(value=True), pc.if_else(no, pa.scalar(value=False), otherwise))

    def _label(self, event: IntArray, delay_ms: int) -> dict[str, Any]:
        rule = self._mapping.label
        if rule is None:
            nothing = {"label_timestamp": pa.nulls(self._count, _MOMENT)}
            nothing["fraud_type"] = pa.nulls(self._count, pa.string())
            return nothing | {"is_fraud": pa.repeat(pa.scalar(value=False), self._count)}
        text = pc.fill_null(self._text(rule.column), "")
        fraud, fine = (
            pc.is_in(text, pa.array(values, pa.string())).to_numpy(zero_copy_only=False)
            for values in (rule.fraud, rule.legitimate)
        )
        if rule.legitimate:
            self._refuse_unread(~(fraud | fine), "is_fraud", rule.column, "unknown label")
        known = np.where(event == NEVER, 0, event) + delay_ms
        if rule.arrival is not None:
            said = self._moment(rule.arrival)
            self._refuse(fraud & (said != NEVER) & (said < event), "label", rule.arrival.columns, "known too early")
            known = np.where((said != NEVER) & fraud, said, known)
        kinds = pa.nulls(self._count, pa.string())
        if rule.fraud_type is not None:
            kinds = self._fraud_types(rule.fraud_type, fraud)
        when = pc.if_else(pa.array(fraud), moments(np.where(self._good, known, 0)), None)
        return {"is_fraud": pa.array(fraud), "label_timestamp": when, "fraud_type": kinds}

    def _fraud_types(self, code: Code, fraud: BoolArray) -> Any:
        if code.column is None:
            return pc.if_else(pa.array(fraud), pa.scalar(code.constant, pa.string()), None)
        text = self._text(code.column)
        found = text
        if code.values:
            said = pa.array([str(value) for value in code.values.values()])
            found = said.take(pc.index_in(pc.fill_null(text, ""), value_set=pa.array(list(code.values))))
        if code.otherwise is not None:
            found = pc.fill_null(found, str(code.otherwise))
        self._refuse(
            fraud & found.is_null().to_numpy(zero_copy_only=False), "fraud_type", (code.column,), "unknown code"
        )
        return pc.if_else(pa.array(fraud), found, None)

    def _check(self, whole: pa.Table) -> None:
        """Put every row that may break a rule to the rule."""
        places = np.flatnonzero(doubtful(whole) & self._good)
        for place, broken in broken_rules(whole.take(pa.array(places)), self._mapping.currency):
            mine = np.zeros(self._count, np.bool_)
            mine[places[place]] = True
            self._refuse(mine, broken.field, self._mapping.sources(broken.field), broken.reason)
