"""The online store's users with no more rights than they need, as the templates give them."""

from typing import Any

from infra.names import JOBS, SCORER, STREAM
from infra.store_users import RIGHTS
from tests.support.bundles import PROJECT

READER = ("resetchannels", *RIGHTS[SCORER])
"""What the scorer needs."""

WRITER = ("resetchannels", *RIGHTS[STREAM])
"""What the stream needs, and the scorer with write-through."""

JOB = ("resetchannels", *RIGHTS[JOBS])
"""What Feast's own writes need."""


def add_users(client: Any, *, default_password: str = "") -> None:
    """Add ``scorer``, ``writer`` and ``jobs`` (passwords ``read``, ``write``, ``work``).

    With a password the default user needs it.
    """
    for name, password, rights in (("scorer", "read", READER), ("writer", "write", WRITER), ("jobs", "work", JOB)):
        client.execute_command("ACL", "SETUSER", name, "reset", "on", f">{password}", f"~*{PROJECT}", *rights)
    if default_password:
        client.execute_command("CONFIG", "SET", "requirepass", default_password)
        client.execute_command("AUTH", default_password)
