"""What can go wrong in the weekly loop, each a fact with a stable code."""

from fraud.errors import TollgateError


class NoSuchVersion(TollgateError):
    """A model version that the registry never saw."""

    code = "no_such_version"
