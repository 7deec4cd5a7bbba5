"""The online store that the settings choose."""

import os

from fraud.settings import Settings
from serving.dynamodb_store import DynamoDBStore
from serving.metrics import Metrics
from serving.redis_cluster import RedisClusterStore
from serving.redis_store import RedisStore
from serving.signed_http import SignedEndpoint
from serving.store import OnlineStore
from stores.access import redis_access
from stores.credentials import Renewed, find_credentials


def open_store(settings: Settings, metrics: Metrics) -> OnlineStore:
    """Return the store; nothing is reached before it is started.

    Raises
    ------
    InvalidSetting
        A file that the settings name cannot be used. A secret that cannot be read now only means a degraded start.
    """
    if settings.online_store == "dynamodb":
        credentials = Renewed(lambda: find_credentials(os.environ))
        endpoint = SignedEndpoint("dynamodb", settings.region, settings.aws_endpoint, credentials)
        return DynamoDBStore(endpoint, metrics, timeout_ms=settings.store_timeout_ms)
    access = redis_access(settings, patient=True)
    if access.cluster:
        return RedisClusterStore(access, metrics, timeout_ms=settings.store_timeout_ms)
    return RedisStore(access, metrics, timeout_ms=settings.store_timeout_ms)
