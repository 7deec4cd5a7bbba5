"""Where features come from: the transaction log, batch profiles, the stream's push sources and the request.

``FRAUD_LAKE`` is the folder of the data, by default that of the demo. A relative one is relative to the root of the
project; ``s3://bucket/prefix`` is a bucket, reached at ``TOLLGATE_AWS_ENDPOINT`` when that is set.
"""

import os
from typing import Final

from feast import Field, FileSource, PushSource, RequestSource
from feast.data_format import ParquetFormat
from feast.types import Float64, Int64, String

DEFAULT_LAKE: Final = "build/demo/lake"


def lake_path(lake: str, name: str) -> str:
    """Return the address of ``name`` in a lake; a relative one as seen from this folder, as Feast reads it.

    Examples
    --------
    >>> lake_path("build/demo/lake", "transactions"), lake_path("s3://tollgate/lake/", "transactions")
    ('../build/demo/lake/transactions', 's3://tollgate/lake/transactions')
    """
    folder = lake.rstrip("/")
    outside = folder.startswith(("s3://", "/"))
    return f"{folder}/{name}" if outside else f"../{folder}/{name}"


_LAKE: Final = os.environ.get("FRAUD_LAKE") or DEFAULT_LAKE
_ENDPOINT: Final = os.environ.get("TOLLGATE_AWS_ENDPOINT", "")


def _log(entity: str) -> FileSource:
    return FileSource(
        name=f"{entity}_log",
        path=lake_path(_LAKE, "transactions"),
        timestamp_field="event_timestamp",
        file_format=ParquetFormat(),
        s3_endpoint_override=_ENDPOINT,
        tags={"velocity": entity},
        description=f"The transaction log, read as the history of every {entity}.",
    )


def _profiles(entity: str) -> FileSource:
    return FileSource(
        name=f"{entity}_profiles",
        path=lake_path(_LAKE, f"profiles/{entity}"),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
        file_format=ParquetFormat(),
        s3_endpoint_override=_ENDPOINT,
        description=f"One row for each {entity} and day, known at the day's end.",
    )


card_velocity_push: Final = PushSource(name="card_velocity_push", batch_source=_log("card"))
device_velocity_push: Final = PushSource(name="device_velocity_push", batch_source=_log("device"))
ip_velocity_push: Final = PushSource(name="ip_velocity_push", batch_source=_log("ip"))
merchant_velocity_push: Final = PushSource(name="merchant_velocity_push", batch_source=_log("merchant"))
card_profiles: Final = _profiles("card")
merchant_profiles: Final = _profiles("merchant")

transaction: Final = RequestSource(
    name="transaction",
    description="The transaction being scored. A token is an entity's id once more, as a value; empty is none.",
    schema=[
        Field(name="event_time_ms", dtype=Int64),
        Field(name="amount_minor", dtype=Int64),
        Field(name="card_token", dtype=String),
        Field(name="merchant_token", dtype=String),
        Field(name="device_token", dtype=String),
        Field(name="channel", dtype=String),
        Field(name="merchant_category", dtype=Int64),
        Field(name="country", dtype=String),
        Field(name="latitude", dtype=Float64),
        Field(name="longitude", dtype=Float64),
    ],
)
