"""How to reach the Redis of the settings: address, TLS with verified names, user and password, wherever that is kept.

Scorer, stream and Feast's online store all ask here, so that what one of them reaches the others reach too.
"""

import contextlib
import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fraud.errors import InvalidSetting, TollgateError
from fraud.settings import PREFIX, Secret, Settings
from stores.secrets import read_secret

RENEW_S: Final = 10.0
"""Between two times that a refused password is read again."""


class Password:
    """A password that may change where it is kept while we run.

    Parameters
    ----------
    find
        Reads it.
    patient
        Begin without it when it cannot be read now: it is read once the store asks for it.
    """

    def __init__(self, find: Callable[[], Secret], *, patient: bool = False) -> None:
        self._find = find
        self._read_at = time.monotonic()
        try:
            self.current = find()
        except TollgateError as error:
            if not (patient and error.retryable):
                raise
            self.current = Secret()

    def renew(self) -> None:
        """Read it again, after it was refused; the old one stays when that fails, or was done a moment ago."""
        if time.monotonic() - self._read_at < RENEW_S:
            return
        self._read_at = time.monotonic()
        with contextlib.suppress(TollgateError):
            self.current = self._find()


@dataclass(frozen=True)
class Access:
    """The way to a Redis.

    Parameters
    ----------
    host, port
        One node; of a cluster any, or its configuration endpoint.
    cluster
        Whether keys are spread over nodes by slot.
    tls
        Null for a plain connection.
    ca_file
        Who signs the server's certificate; empty for the system's own authorities.
    username
        Empty for the default user.
    password
        Null for none.
    """

    host: str
    port: int
    cluster: bool = False
    tls: ssl.SSLContext | None = None
    ca_file: str = ""
    username: str = ""
    password: Password | None = None

    def authentication(self) -> tuple[bytes, ...]:
        """Return the command that says who we are; empty when nobody needs to know."""
        if self.password is None or not self.password.current.value:
            return ()
        user = (self.username.encode(),) if self.username else ()
        return (b"AUTH", *user, self.password.current.value.encode())

    def refused(self) -> None:
        """Take note that our credentials were refused: the password may have been changed. May wait for its keeper."""
        if self.password is not None:
            self.password.renew()

    def client_options(self) -> dict[str, Any]:
        """Return TLS and credentials as redis-py takes them."""
        options: dict[str, Any] = {}
        if self.password is not None and self.password.current.value:
            options["password"] = self.password.current.value
        if self.username:
            options["username"] = self.username
        if self.tls is not None:
            options |= {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True}
            options |= {"ssl_ca_certs": self.ca_file} if self.ca_file else {}
        return options


def redis_access(settings: Settings, environ: Mapping[str, str] | None = None, *, patient: bool = False) -> Access:
    """Return the way to the Redis of the settings, its password read from where the settings say it is.

    Parameters
    ----------
    environ
        Where AWS credentials are found when the password is a secret of Secrets Manager; this process's own by
        default.
    patient
        See :class:`Password`.

    Raises
    ------
    InvalidSetting
        The file of the authority or of the password cannot be used.
    SecretUnreadable, NoCredentials
        The secret cannot be had.
    """
    found = os.environ if environ is None else environ
    return Access(
        settings.redis_host,
        settings.redis_port,
        settings.redis_cluster,
        tls_context(settings.redis_ca_file) if settings.redis_tls else None,
        settings.redis_ca_file,
        settings.redis_username,
        Password(lambda: _password(settings, found), patient=patient),
    )


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Return a context that verifies certificate and host name.

    Raises
    ------
    InvalidSetting
        The file holds no certificates.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or "it holds no certificate"
        raise InvalidSetting(f"{PREFIX}REDIS_CA_FILE={ca_file!r} cannot be used: {reason}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _password(settings: Settings, environ: Mapping[str, str]) -> Secret:
    if settings.redis_password_file:
        path = Path(settings.redis_password_file)
        try:
            password = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise InvalidSetting(f"{PREFIX}REDIS_PASSWORD_FILE={str(path)!r} cannot be read: {reason}") from None
        if not password:
            raise InvalidSetting(f"{PREFIX}REDIS_PASSWORD_FILE={str(path)!r} is empty")
        return Secret(password)
    if settings.redis_password_secret:
        return read_secret(
            settings.redis_password_secret, region=settings.region, endpoint=settings.aws_endpoint, environ=environ
        )
    return settings.redis_password
