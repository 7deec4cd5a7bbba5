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
