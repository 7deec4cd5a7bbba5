"""How to reach the Redis of the settings: address, TLS with verified names, user and password, wherever that is kept.

Scorer, stream and Feast's online store all ask here, so that what one of them reaches the others reach too.
"""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fraud.errors import InvalidSetting
from fraud.settings import PREFIX, Secret, Settings
from stores.secrets import read_secret


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
    username, password
        Empty for the default user, and for none.
    """

    host: str
    port: int
    cluster: bool = False
    tls: ssl.SSLContext | None = None
    ca_file: str = ""
    username: str = ""
    password: Secret = Secret()  # noqa: RUF009  # frozen

    def authentication(self) -> tuple[bytes, ...]:
        """Return the command that says who we are; empty when nobody needs to know."""
        if not self.password.value:
            return ()
        user = (self.username.encode(),) if self.username else ()
        return (b"AUTH", *user, self.password.value.encode())

    def client_options(self) -> dict[str, Any]:
        """Return TLS and credentials as redis-py takes them."""
        options: dict[str, Any] = {}
        if self.password.value:
            options["password"] = self.password.value
        if self.username:
            options["username"] = self.username
        if self.tls is not None:
            options |= {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True}
            options |= {"ssl_ca_certs": self.ca_file} if self.ca_file else {}
        return options


def redis_access(settings: Settings, environ: Mapping[str, str] | None = None) -> Access:
    """Return the way to the Redis of the settings, its password read from where the settings say it is.

    Parameters
    ----------
    environ
        Where AWS credentials are found when the password is a secret of Secrets Manager; this process's own by
        default.

    Raises
    ------
    InvalidSetting
        The file of the authority or of the password cannot be used.
    SecretUnreadable, NoCredentials
        The secret cannot be had.
    """
    return Access(
        settings.redis_host,
        settings.redis_port,
        settings.redis_cluster,
        tls_context(settings.redis_ca_file) if settings.redis_tls else None,
        settings.redis_ca_file,
        settings.redis_username,
        _password(settings, os.environ if environ is None else environ),
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
