"""What can go wrong in the weekly loop, each a fact with a stable code."""

from fraud.errors import TollgateError


class NoSuchVersion(TollgateError):
    """A model version that the registry never saw."""

    code = "no_such_version"


class NothingToRollBack(TollgateError):
    """There is no earlier champion to go back to."""

    code = "nothing_to_roll_back"


class RegistryBusy(TollgateError):
    """Another iteration or rollback is at work in the registry."""

    code = "registry_busy"
    retryable = True


class IncomparableChampion(TollgateError):
    """The champion takes a feature that the training set does not have."""

    code = "incomparable_champion"


class MissingDays(TollgateError):
    """A training set has days without a transaction."""

    code = "missing_days"


class InvalidPipeline(TollgateError):
    """A pipeline's definition is not what the code makes, or a job was given what it cannot use."""

    code = "invalid_pipeline"


class RegistryUnreachable(TollgateError):
    """The registry did not answer, or refused; nothing was changed there that the message does not name."""

    code = "registry_unreachable"
    retryable = True


class InvalidAddress(TollgateError):
    """An address that names no registry."""

    code = "invalid_address"


class RolloutFailed(TollgateError):
    """A rollout ended in a state that a person has to decide about."""

    code = "rollout_failed"


class NoShadow(TollgateError):
    """No decision that a challenger scored along."""

    code = "no_shadow"
