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
