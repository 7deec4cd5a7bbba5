"""The online store that the settings choose, opened for the stream."""

from fraud.settings import Settings
from streaming.states import RedisStates, States, connect


def open_states(settings: Settings) -> States:
    """Return the states in the store that ``TOLLGATE_ONLINE_STORE`` names; whoever opens closes."""
    if settings.online_store == "redis":
        return RedisStates(connect(settings), project=settings.project, lifetime_s=settings.redis_key_ttl_s)
    from streaming.dynamodb_states import DynamoDBStates, connect_states  # boto3 takes a second to import

    return DynamoDBStates(connect_states(settings), project=settings.project)
