"""Requests to AWS signed by hand: Signature Version 4 for a JSON ``POST`` and for S3, without botocore.

The scorer's container carries no AWS library: importing one takes a second and signing with it 60 µs a request. Here a
day's key is derived once and a signature costs a few hashes. A test holds it against botocore's own signer.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from fraud.settings import Secret

ALGORITHM: Final = "AWS4-HMAC-SHA256"


@dataclass(frozen=True)
class Credentials:
    """Who signs.

    Parameters
    ----------
    access_key, secret_key, token
        As AWS issues them; the token is empty for a user's own keys.
    expires_at_s
        Epoch seconds after which AWS refuses them; null for never.
    """

    access_key: str
    secret_key: Secret
    token: Secret
    expires_at_s: float | None = None


class Signer:
    """Signs requests to one service in one region.

    Parameters
    ----------
    service
        Its signing name, such as ``dynamodb``.
    region
        Such as ``eu-west-1``.
    host
        Host and, when it is not the scheme's own, port.
    """

    def __init__(self, service: str, region: str, host: str) -> None:
        self._scope_end = f"{region}/{service}/aws4_request"
        self._region = region
        self._service = service
        self._host = host
        self._day = ""
        self._derived_from = ""
        self._key = b""

    def headers(
        self, credentials: Credentials, body: bytes, *, target: str, content_type: str, now_s: float
    ) -> dict[str, str]:
        """Return the headers of ``POST /`` with ``body``.

        Parameters
        ----------
        target
            The operation, such as ``DynamoDB_20120810.BatchGetItem``.
        content_type
            Such as ``application/x-amz-json-1.0``.
        now_s
            Epoch seconds; AWS refuses a clock that is five minutes off.
        """
        stamp = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ")
        signed = {
            "content-type": content_type,
            "host": self._host,
            "x-amz-date": stamp,
            **({"x-amz-security-token": credentials.token.value} if credentials.token.value else {}),
            "x-amz-target": target,
        }
        return self._signed(credentials, "POST\n/\n", signed, hashlib.sha256(body).hexdigest())

    def object_headers(
        self,
        credentials: Credentials,
        method: str,
        address: str,
        body: bytes,
        *,
        conditions: Mapping[str, str],
        now_s: float,
    ) -> dict[str, str]:
        """Return the headers of a request to S3.

        Parameters
        ----------
        method
            Such as ``GET``.
        address
            Path and, after a question mark, query: both percent-encoded as they are sent, the query in the order of
            its names.
        conditions
            Headers besides, by their names in lower case, such as ``if-match``.
        now_s
            Epoch seconds.
        """
        digest = hashlib.sha256(body).hexdigest()
        headers = {
            **conditions,
            "host": self._host,
            "x-amz-content-sha256": digest,
            "x-amz-date": datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ"),
            **({"x-amz-security-token": credentials.token.value} if credentials.token.value else {}),
        }
        path, _, query = address.partition("?")
        return self._signed(credentials, f"{method}\n{path}\n{query}", dict(sorted(headers.items())), digest)

    def _signed(self, credentials: Credentials, begin: str, signed: dict[str, str], digest: str) -> dict[str, str]:
        """Return headers, which lie in the order of their names, with the signature among them."""
        stamp = signed["x-amz-date"]
        names = ";".join(signed)
        lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
        canonical = f"{begin}\n{lines}\n{names}\n{digest}"
        scope = f"{stamp[:8]}/{self._scope_end}"
        text = f"{ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.new(self._signing_key(credentials, stamp[:8]), text.encode(), "sha256").hexdigest()
        signed["authorization"] = (
            f"{ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return signed

    def _signing_key(self, credentials: Credentials, day: str) -> bytes:
        if self._day != day or self._derived_from != credentials.secret_key.value:
            key = b"AWS4" + credentials.secret_key.value.encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.new(key, part.encode(), "sha256").digest()
            self._day, self._derived_from, self._key = day, credentials.secret_key.value, key
        return self._key


def service_host(service: str, region: str) -> str:
    """Return the host of a service in a region.

    Examples
    --------
    >>> service_host("dynamodb", "eu-west-1"), service_host("firehose", "cn-north-1")
    ('dynamodb.eu-west-1.amazonaws.com', 'firehose.cn-north-1.amazonaws.com.cn')
    """
    return f"{service}.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"
