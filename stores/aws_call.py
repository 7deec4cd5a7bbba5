"""Signed JSON requests to one AWS service from a thread, over one connection that is kept.

The blocking twin of the scorer's reads: for work off the request path, where importing boto3 would cost more than the
call.
"""

import http.client
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from fraud.errors import StoreUnavailable
from stores.credentials import Renewed, find_credentials
from stores.signing import Signer, service_host

JSON_1_1: Final = "application/x-amz-json-1.1"


class AwsCalls:
    """One service, asked by one thread.

    Parameters
    ----------
    service
        Such as ``firehose``.
    region
        Such as ``eu-west-1``.
    endpoint
        Another address than Amazon's; empty for Amazon's.
    environ
        Where credentials are found.
    timeout_s
        Longest wait for a connection, and for each piece of an answer.
    """

    def __init__(
        self, service: str, region: str, endpoint: str, *, environ: Mapping[str, str], timeout_s: float
    ) -> None:
        parts = urlsplit(endpoint or f"https://{service_host(service, region)}")
        self._signer = Signer(service, region, parts.netloc)
        self._credentials = Renewed(lambda: find_credentials(environ))
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)

    def post(self, target: str, body: bytes) -> tuple[int, bytes]:
        """Return status and body of the answer.

        Raises
        ------
        StoreUnavailable
            No answer came.
        NoCredentials
            There are none now.
        """
        credentials = self._credentials.get()
        headers = self._signer.headers(credentials, body, target=target, content_type=JSON_1_1, now_s=time.time())
        try:
            self._connection.request("POST", "/", body, headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise StoreUnavailable(f"the service did not answer ({type(error).__name__})") from None

    def close(self) -> None:
        """End the connection."""
        self._connection.close()
