"""What can go wrong between a history and a model, each a fact with a stable code."""

from fraud.errors import TollgateError


class InvalidMetricInput(TollgateError):
    """Scores, labels or a metric's parameter are out of range or do not fit together."""

    code = "invalid_metric_input"


class InvalidSplit(TollgateError):
    """A split in time is impossible: a length is out of range or a period holds no row."""

    code = "invalid_split"


class UnknownFormat(TollgateError):
    """A data set format that nothing here can import."""

    code = "unknown_format"


class UnreadableSource(TollgateError):
    """A source file is missing, is not what its format says, or lacks a column."""

    code = "unreadable_source"


class UnwritableOutput(TollgateError):
    """The output cannot be written: it exists already, or the disk refused."""

    code = "unwritable_output"


class IncompleteTrainingSet(TollgateError):
    """A point-in-time join lost, added or reordered rows."""

    code = "incomplete_training_set"


class UnfitTrainingSet(TollgateError):
    """A training set that no model can be fitted to: no fraud, nothing but fraud, or too few rows."""

    code = "unfit_training_set"


class RepositoryNotApplied(TollgateError):
    """Feast's registry of a lake is missing and could not be made."""

    code = "repository_not_applied"


class InvalidMapping(TollgateError):
    """A mapping file that is missing, is no TOML, or says something that no mapping can say."""

    code = "invalid_mapping"


class InvalidTokenKey(TollgateError):
    """A key file for tokens that is missing or too short."""

    code = "invalid_token_key"


class InvalidDuration(TollgateError):
    """A text that is no duration."""

    code = "invalid_duration"


class NothingToAudit(TollgateError):
    """There is no row that the leak prover could audit."""

    code = "nothing_to_audit"


class LeakingTrainingSet(TollgateError):
    """The leak prover found a feature that sees what its row could not know, or rows that it cannot vouch for."""

    code = "leaking_training_set"
