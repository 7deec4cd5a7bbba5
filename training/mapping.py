"""A mapping file: how the columns of somebody's data become transactions and labels.

TOML, one table for each field of the transaction log; ``docs/bring-your-own-data.md`` is its manual. What a mapping
cannot say it refuses to say: an unknown key, a missing column or a wrong unit is an error that names the key.
"""

import hashlib
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from fraud.label import Source
from fraud.transaction import CHANNELS
from training.durations import duration_ms
from training.errors import InvalidMapping, UnknownFormat

Names = Annotated[tuple[str, ...], Meta(min_length=1)]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$")]
_WHOLE: Final = frozenset(
    {"BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"}
)
_THOUSANDTHS: Final = frozenset({"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"})


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of a mapping file; unknown keys are refused."""


class Identifier(_Table, frozen=True):
    """A token from one column, or several joined.

    Parameters
    ----------
    columns
        Of the source.
    separator, prefix, width
        Between the columns' texts, before them, and the least width of each, filled with zeros on the left.
    optional
        Whether the columns may be absent from the source; the field is then null.
    """

    columns: Names
    separator: str = "-"
    prefix: str = ""
    width: Annotated[int, Meta(ge=0, le=64)] = 0
    optional: bool = False


class RowIdentifier(_Table, frozen=True):
    """The transaction's id: from columns as :class:`Identifier`, or from the row's place when ``derived``."""

    columns: tuple[str, ...] = ()
    derived: bool = False
    separator: str = "-"
    prefix: str = ""
    width: Annotated[int, Meta(ge=0, le=64)] = 0


class Moment(_Table, frozen=True):
    """A time: typed, ISO 8601 text, text of a format, or a number of units since an origin.

    Parameters
    ----------
    columns
        Joined by a space before they are read, so that a day and a time of day may stand apart.
    format
        As of ``strptime``; null for typed columns and ISO 8601.
    unit, origin
        Of numbers: ``s``, ``ms``, ``us`` or ``ns`` since the origin, by default 1970-01-01.
    zone
        Of times that name no offset: an IANA name. An hour that a clock change repeats is its first, one that it skips
        is moved to its end.
    """

    columns: Names
    format: str | None = None
    unit: Literal["s", "ms", "us", "ns"] | None = None
    origin: str = "1970-01-01T00:00:00"
    zone: str = "UTC"


class Money(_Table, frozen=True):
    """An amount.

    Parameters
    ----------
    unit
        ``major`` (19.99) or ``minor`` (1999).
    strip
        Characters taken off the text, such as ``$,``.
    decimal
        The decimal sign of text.
    below_one
        What becomes of an amount that rounds to nothing: ``reject``, or ``raise`` to one minor unit. Negative ones are
        always rejected.
    """

    column: str
    unit: Literal["minor", "major"]
    strip: str = ""
    decimal: Literal[".", ","] = "."
    below_one: Literal["reject", "raise"] = "reject"


class Code(_Table, frozen=True):
    """A code: the same for all rows, or from a column, as it stands or by a table of values.

    Parameters
    ----------
    constant
        The same for all rows.
    column
        Of the source.
    values
        From the column's text to the code; without it the text is the code.
    otherwise
        For a text that is not in ``values``, or for none at all; without it the row is rejected.
    """

    constant: str | int | None = None
    column: str | None = None
    values: dict[str, str | int] = {}
    otherwise: str | int | None = None


class Flag(_Table, frozen=True):
    """Yes or no from a column's text; ``otherwise`` where it is in neither list, null for unknown."""

    column: str
    true: tuple[str, ...] = ()
    false: tuple[str, ...] = ()
    otherwise: bool | None = None


class Place(_Table, frozen=True):
    """Columns of degrees."""

    latitude: str
    longitude: str


class LabelRule(_Table, frozen=True):
    """Where the label stands and when it became known.

    Parameters
    ----------
    column, fraud, legitimate
        The column, and its texts that mean fraud and that do not; another text rejects the row. Without the latter all
        other texts, and none, are legitimate.
    source
        Who says so.
    delay
        After the transaction, where no arrival is known.
    arrival
        When it became known, where the data say; a row without one uses ``delay``.
    truth
        Whether the column is the whole truth, as in simulated data; it is then kept apart for judging models.
    fraud_type
        Name of the kind of fraud, for the truth alone.
    """

    column: str
    fraud: Names
    legitimate: tuple[str, ...] = ()
    source: Source = "chargeback"
    delay: str = "30d"
    arrival: Moment | None = None
    truth: bool = False
    fraud_type: Code | None = None

    @property
    def delay_ms(self) -> int:
        """The delay in milliseconds."""
        return duration_ms("label.delay", self.delay)


class FileFormat(_Table, frozen=True):
    """How text files are written; Parquet needs nothing."""

    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] = ","
    encoding: str = "utf-8"
    missing: tuple[str, ...] = ("",)


class Mapping(_Table, frozen=True):
    """A whole mapping file; a table that is absent leaves its field null.

    Parameters
    ----------
    currency, currency_column
        The data set's one currency, and the column to hold each row to it.
    arrival
        When each transaction became known; by default at its event time.
    """

    name: Annotated[str, Meta(pattern="^[a-z0-9_-]{1,40}$")]
    currency: Currency
    transaction_id: RowIdentifier
    card_id: Identifier
    merchant_id: Identifier
    event_time: Moment
    amount: Money
    channel: Code
    merchant_category: Code
    country: Code
    currency_column: str | None = None
    device_id: Identifier | None = None
    ip: Identifier | None = None
    arrival: Moment | None = None
    place: Place | None = None
    authorised: Flag | None = None
    label: LabelRule | None = None
    file: FileFormat = FileFormat()

    @property
    def decimals(self) -> int:
        """Decimals of the currency's major unit."""
        return 0 if self.currency in _WHOLE else 3 if self.currency in _THOUSANDTHS else 2

    def wanted(self) -> tuple[str, ...]:
        """Return the columns that a source must have."""
        names = [*self.transaction_id.columns, *self.card_id.columns, *self.merchant_id.columns]
        names += [name for part in (self.device_id, self.ip) if part and not part.optional for name in part.columns]
        names += [name for part in (self.event_time, self.arrival) if part for name in part.columns]
        codes = [self.channel, self.merchant_category, self.country]
        if self.label:
            names.append(self.label.column)
            names += self.label.arrival.columns if self.label.arrival else ()
            codes += [self.label.fraud_type] if self.label.fraud_type else []
        names += [code.column for code in codes if code.column]
        names += [self.place.latitude, self.place.longitude] if self.place else []
        names += [name for name in (self.amount.column, self.currency_column) if name]
        names += [self.authorised.column] if self.authorised else []
        return tuple(dict.fromkeys(names))

    def optional(self) -> tuple[str, ...]:
        """Return the columns that a source may have."""
        parts = [part for part in (self.device_id, self.ip) if part and part.optional]
        return tuple(dict.fromkeys(name for part in parts for name in part.columns))

    def sources(self, field: str) -> tuple[str, ...]:
        """Return the source's columns that an identifier, a code or the place of the log is made of."""
        if field in ("latitude", "longitude"):
            return (self.place.latitude, self.place.longitude) if self.place else ()
        rule = getattr(self, field, None)
        if isinstance(rule, Identifier | RowIdentifier):
            return rule.columns
        return (rule.column,) if isinstance(rule, Code) and rule.column else ()

    def digest(self) -> str:
        """Return the SHA-256 of what the mapping says."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


def shipped_mappings() -> tuple[str, ...]:
    """Return the names of the ready mappings.

    Examples
    --------
    >>> shipped_mappings()
    ('handbook', 'ieee-cis', 'sparkov', 'synccfd', 'tabformer')
    """
    folder = resources.files("training.mappings")
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")))


def find_mapping(name: str) -> Mapping:
    """Return the mapping of a file, or the ready one of a name.

    Raises
    ------
    UnknownFormat
        It is neither a ready mapping's name nor a path.
    InvalidMapping
        As for :func:`parse_mapping`, or the file cannot be read.
    """
    if name in shipped_mappings():
        return parse_mapping((resources.files("training.mappings") / f"{name}.toml").read_bytes(), name)
    path = Path(name)
    if not path.suffix and not path.exists():
        raise UnknownFormat(f"format {name!r} is unknown; known: {', '.join(shipped_mappings())}, or a TOML file")
    try:
        return parse_mapping(path.read_bytes(), name)
    except OSError as error:
        raise InvalidMapping(f"{name}: {error.strerror}") from None


def parse_mapping(text: bytes, name: str) -> Mapping:
    """Return the mapping that a TOML text says.

    Parameters
    ----------
    name
        Of the file, for errors.

    Raises
    ------
    InvalidMapping
        The text is no TOML, misses a key, has an unknown one, or a value contradicts another; the key is named.
    """
    try:
        mapping = msgspec.convert(tomllib.loads(text.decode()), Mapping)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidMapping(f"{name} is no TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise InvalidMapping(f"{name}: {str(error).replace(' - at `$.', ' in `')}") from None
    _check(mapping, name)
    return mapping


def _check(mapping: Mapping, name: str) -> None:
    if bool(mapping.transaction_id.columns) == mapping.transaction_id.derived:
        raise InvalidMapping(f"{name}: transaction_id takes either `columns` or `derived = true`")
    codes = {"channel": mapping.channel, "merchant_category": mapping.merchant_category, "country": mapping.country}
    for field, code in codes.items():
        if (code.constant is None) == (code.column is None):
            raise InvalidMapping(f"{name}: {field} takes either `constant` or `column`")
    for said in (mapping.channel.constant, mapping.channel.otherwise, *mapping.channel.values.values()):
        if said is not None and said not in CHANNELS:
            raise InvalidMapping(f"{name}: channel {said!r} is none of {', '.join(CHANNELS)}")
    arrivals = {"arrival": mapping.arrival, "label.arrival": mapping.label.arrival if mapping.label else None}
    for field, moment in ({"event_time": mapping.event_time} | arrivals).items():
        if moment is not None:
            _check_moment(moment, f"{name}: {field}")
    if mapping.label is not None:
        _ = mapping.label.delay_ms


def _check_moment(moment: Moment, place: str) -> None:
    if moment.unit is not None and (moment.format is not None or len(moment.columns) > 1):
        raise InvalidMapping(f"{place} is a number of `unit`, so it takes one column and no `format`")
    try:
        ZoneInfo(moment.zone)
    except (KeyError, OSError, ValueError):  # a name that is no zone, or that is a folder of zones
        raise InvalidMapping(f"{place}.zone {moment.zone!r} is no IANA time zone such as 'Europe/Berlin'") from None
