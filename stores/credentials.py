"""AWS credentials of this process: from the environment, or from the endpoint that a container's role has.

SageMaker, Lambda and ECS hand credentials out in one of these two ways. An instance's metadata service, profiles and
single sign-on are left to boto3: what runs on a person's machine takes keys from the environment.
"""

import http.client
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

import msgspec

from fraud.errors import TollgateError
from fraud.settings import Secret
from stores.signing import Credentials

RELATIVE: Final = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
FULL: Final = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
CONTAINER_HOST: Final = "169.254.170.2"
LOCAL_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1", CONTAINER_HOST, "169.254.170.23"})
"""Where credentials may be asked for without TLS."""

TIMEOUT_S: Final = 2.0
REFRESH_S: Final = 900.0
"""Credentials are renewed so long before they expire."""

RETRY_S: Final = 10.0
"""Between two tries to renew credentials that have not expired yet."""


class NoCredentials(TollgateError):
    """There are no AWS credentials for this process, or they cannot be had now."""

    code = "no_credentials"
    retryable = True


class _Issued(msgspec.Struct, rename="pascal"):
    access_key_id: str
    secret_access_key: str
    token: str
    expiration: str


def find_credentials(environ: Mapping[str, str]) -> Credentials:
    """Return this process's credentials; asks the container's endpoint when the environment names one.

    Raises
    ------
    NoCredentials
        There are none, or the endpoint did not answer.
    """
    if environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY"):
        return Credentials(
            environ["AWS_ACCESS_KEY_ID"],
            Secret(environ["AWS_SECRET_ACCESS_KEY"]),
            Secret(environ.get("AWS_SESSION_TOKEN", "")),
        )
    if environ.get(RELATIVE):
        return _ask(f"http://{CONTAINER_HOST}{environ[RELATIVE]}", environ)
    if environ.get(FULL):
        return _ask(environ[FULL], environ)
    raise NoCredentials(f"no AWS credentials: neither AWS_ACCESS_KEY_ID, {RELATIVE} nor {FULL} is set")


def _ask(address: str, environ: Mapping[str, str]) -> Credentials:
    parts = urlsplit(address)
    host = parts.hostname or ""
    if parts.scheme != "https" and host not in LOCAL_HOSTS:
        raise NoCredentials(f"{FULL} names {host}, which is neither this machine nor reached by TLS")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(host, parts.port, timeout=TIMEOUT_S)
    token = environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("GET", path, headers={"Authorization": token} if token else {})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != http.client.OK:
            raise NoCredentials(f"the container's credentials endpoint answered {answer.status}")
        issued = msgspec.json.decode(body, type=_Issued)
        expires_at_s = datetime.fromisoformat(issued.expiration).timestamp()
    except (OSError, http.client.HTTPException) as error:
        raise NoCredentials(f"the container's credentials endpoint did not answer ({type(error).__name__})") from None
    except (msgspec.DecodeError, ValueError):
        raise NoCredentials("the container's credentials endpoint answered with something else") from None
    finally:
        connection.close()
    return Credentials(issued.access_key_id, Secret(issued.secret_access_key), Secret(issued.token), expires_at_s)


class Renewed:
    """Credentials that are asked for again before they expire.

    Parameters
    ----------
    find
        See :func:`find_credentials`; called by :meth:`renew` only, so that a reader of ``current`` never waits.
    """

    def __init__(self, find: Callable[[], Credentials], clock: Callable[[], float] = time.time) -> None:
        self._find = find
        self._clock = clock
        self._next_try = 0.0
        self.current: Credentials | None = None

    def renew(self) -> float | None:
        """Ask for credentials; return the seconds until that is due again, null when these never expire.

        Raises
        ------
        NoCredentials
            None came. Those that were there before stay.
        """
        self.current = self._find()
        return self.due_in_s()

    def due_in_s(self) -> float | None:
        """Return how long the current credentials need no renewal; null for ever."""
        if self.current is None:
            return 0.0
        if self.current.expires_at_s is None:
            return None
        return max(RETRY_S, self.current.expires_at_s - REFRESH_S - self._clock())

    def get(self) -> Credentials:
        """Return credentials that are good now, renewed when that is due; for callers that may wait.

        Raises
        ------
        NoCredentials
            There are none, and none came.
        """
        now = self._clock()
        due = self.current is None or (
            self.current.expires_at_s is not None and self.current.expires_at_s - REFRESH_S <= now
        )
        if due and now >= self._next_try:
            self._next_try = now + RETRY_S
            try:
                self.current = self._find()
            except NoCredentials:
                if self.current is None:
                    raise
        if self.current is None:
            raise NoCredentials("there were no AWS credentials a moment ago")
        return self.current
