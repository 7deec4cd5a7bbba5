"""Who may do what in the online store: one user a process, each with no more than it needs, each with its own secret.

The rights are those that the tests hold against a real Valkey. ``~*fraud`` is a suffix: every key of Feast's ends with
the project.
"""

from collections.abc import Mapping
from typing import Any, Final

from troposphere import If, Ref, Sub, elasticache, secretsmanager

from fraud.settings import PREFIX, Settings
from infra.blueprint import Blueprint, allow, arn, name
from infra.names import JOBS, SCORER, STREAM

NOBODY: Final = "default"
"""ElastiCache wants a user of this name in every group; this one may not even log in."""

_READ: Final = ("-@all", "+hmget", "+ping", "+cluster|slots", "+asking")
_WRITE: Final = (*_READ, "+hget", "+hset", "+evalsha", "+script|load")
RIGHTS: Final[Mapping[str, tuple[str, ...]]] = {
    SCORER: _READ,
    STREAM: _WRITE,
    JOBS: _WRITE,
}
"""Commands of each user. The scorer reads; with write-through it needs the stream's rights."""

KEEP: Final = {"DeletionPolicy": "RetainExceptOnCreate", "UpdateReplacePolicy": "Retain"}


def access(user: str) -> str:
    """Return a user's access string.

    Examples
    --------
    >>> access("scorer")
    'on ~*fraud resetchannels -@all +hmget +ping +cluster|slots +asking'
    """
    if user == NOBODY:
        return f"off ~*{Settings().project} resetchannels -@all"
    return " ".join(("on", f"~*{Settings().project}", "resetchannels", *RIGHTS[user]))


def add_users(blueprint: Blueprint, key: Any, wanted: str) -> Any:
    """Add secrets, users and their group; tell the ARN of each secret; return the group."""
    users = []
    for user in (*RIGHTS, NOBODY):
        title = user.capitalize()
        secret = secretsmanager.Secret(
            f"Store{title}Password",
            Name=name(f"online-store-{user}"),
            Description=f"Password of the online store's user {user}.",
            GenerateSecretString=secretsmanager.GenerateSecretString(ExcludePunctuation=True, PasswordLength=64),
            KmsKeyId=key,
            Condition=wanted,
            **KEEP,
        )
        blueprint.add(secret)
        password = Sub(f"{{{{resolve:secretsmanager:${{Store{title}Password}}:SecretString}}}}")
        users.append(
            blueprint.add(
                elasticache.User(
                    f"Store{title}",
                    UserId=name(f"store-{user}"),
                    UserName=user,
                    Engine="valkey",
                    AccessString=access(user),
                    AuthenticationMode=elasticache.AuthenticationMode(Type="password", Passwords=[password]),
                    Condition=wanted,
                )
            )
        )
        if user != NOBODY:
            given = If(wanted, Ref(secret), arn("secretsmanager", "secret:none"))
            blueprint.give(f"store-{user}-password-arn", given)
    group = elasticache.UserGroup(
        "StoreUsers",
        UserGroupId=name("store-users"),
        Engine="valkey",
        UserIds=[Ref(user) for user in users],
        Condition=wanted,
    )
    return blueprint.add(group)


def online_store(blueprint: Blueprint, user: str) -> dict[str, Any]:
    """Return the settings of one who speaks with the online store; its password is read at its start, by its ARN."""
    on_redis = blueprint.on_store("redis")
    secret = blueprint.take("data", f"store-{user}-password-arn")
    return {
        PREFIX + "ONLINE_STORE": blueprint.store_kind(),
        PREFIX + "REDIS_HOST": blueprint.take("data", "store-host"),
        PREFIX + "REDIS_TLS": If(on_redis, "true", "false"),
        PREFIX + "REDIS_USERNAME": If(on_redis, user, ""),
        PREFIX + "REDIS_PASSWORD_SECRET": If(on_redis, secret, ""),
    }


def store_password(blueprint: Blueprint, user: str) -> dict[str, Any]:
    """Return the right to read one user's password."""
    secret = blueprint.take("data", f"store-{user}-password-arn")
    return allow("StorePassword", ["secretsmanager:GetSecretValue"], [secret])
