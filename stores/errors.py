"""What can be wrong with a question to the offline store, with the files behind it, or with a store's configuration."""

from fraud.errors import TollgateError


class InvalidEntityFrame(TollgateError):
    """The rows asked about miss a column, hold nulls where a key must stand, or contradict themselves."""

    code = "invalid_entity_frame"


class UnfitRows(TollgateError):
    """Rows to be appended to a source miss a column, hold a null in a key or time, or do not fit its types."""

    code = "unfit_rows"


class UnreadableSource(TollgateError):
    """Files of a source are missing, broken, or not of the declared columns and types."""

    code = "unreadable_source"


class UnsupportedRequest(TollgateError):
    """Feast allows the request and this store does not answer it; the message says what to ask instead."""

    code = "unsupported_request"


class InvalidStoreConfig(TollgateError):
    """A store was configured with a value out of bounds, or in a way that would take its guards away."""

    code = "invalid_store_config"
