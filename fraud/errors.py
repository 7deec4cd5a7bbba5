"""The errors of Tollgate: one root, each a fact with a stable code.

An error carries the offending value in its message and never a card number or another secret. ``retryable`` says
whether the same call may succeed later without anybody changing anything.
"""

from typing import ClassVar


class TollgateError(Exception):
    """The root of every error raised on purpose."""

    code: ClassVar[str] = "tollgate_error"
    retryable: ClassVar[bool] = False


class InvalidTransaction(TollgateError):
    """A transaction was refused where its bytes entered."""

    code = "invalid_transaction"

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class InvalidLabel(TollgateError):
    """A label contradicts itself or misses what it needs."""

    code = "invalid_label"


class InvalidState(TollgateError):
    """Bytes that should hold an entity's velocity state do not."""

    code = "invalid_state"


class InvalidPolicy(TollgateError):
    """A policy's thresholds are out of order or out of range."""

    code = "invalid_policy"


class InvalidSetting(TollgateError):
    """A setting is unknown, missing or out of bounds."""

    code = "invalid_setting"


class CorruptBundle(TollgateError):
    """A model bundle is incomplete, altered, or does not predict what it recorded."""

    code = "corrupt_bundle"


class UnknownFeature(TollgateError):
    """A feature name that no window, profile or request field declares."""

    code = "unknown_feature"


class StateConflict(TollgateError):
    """Another writer changed the entity's state between our read and our write."""

    code = "state_conflict"
    retryable = True


class StoreUnavailable(TollgateError):
    """The online store did not answer, or not in time."""

    code = "store_unavailable"
    retryable = True


def sentence(error: Exception) -> str:
    """Return what a person is told of an expected failure, in one sentence without a stack.

    Examples
    --------
    >>> sentence(StoreUnavailable("the store did not answer"))
    'the store did not answer (store_unavailable)'
    >>> sentence(FileNotFoundError(2, "No such file or directory", "lake/labels.parquet"))
    'lake/labels.parquet: No such file or directory'
    >>> sentence(OSError("Cannot create a directory"))
    'Cannot create a directory'
    """
    if isinstance(error, TollgateError):
        return f"{error} ({error.code})"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the disk'}: {error.strerror}"
    return str(error)
