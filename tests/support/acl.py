"""Users of the online store with no more rights than they need, as `docs/aws.md` gives them."""

from typing import Any

from tests.support.bundles import PROJECT

READER = ("resetchannels", "-@all", "+hmget", "+ping", "+cluster|slots", "+asking")
"""What the scorer needs."""

WRITER = (*READER, "+hget", "+hset", "+evalsha", "+script|load")
"""What the stream needs, and the scorer with write-through."""


def add_users(client: Any, *, default_password: str = "") -> None:
    """Add ``scorer`` and ``writer``, passwords ``read`` and ``write``; with a password the default user needs it."""
    for name, password, rights in (("scorer", "read", READER), ("writer", "write", WRITER)):
        client.execute_command("ACL", "SETUSER", name, "reset", "on", f">{password}", f"~*{PROJECT}", *rights)
    if default_password:
        client.execute_command("CONFIG", "SET", "requirepass", default_password)
        client.execute_command("AUTH", default_password)
