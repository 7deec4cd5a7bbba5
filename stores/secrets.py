"""One secret out of AWS Secrets Manager, at the start of a process, with neither boto3 nor a wait without bound."""

import http.client
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec

from fraud.errors import TollgateError
from fraud.settings import Secret
from stores.credentials import find_credentials
from stores.signing import Signer, service_host

TARGET: Final = "secretsmanager.GetSecretValue"
CONTENT_TYPE: Final = "application/x-amz-json-1.1"
TIMEOUT_S: Final = 5.0
ATTEMPTS: Final = 3
PAUSE_S: Final = 0.2


class SecretUnreadable(TollgateError):
    """A secret cannot be read: it is not there, not allowed, or the service does not answer."""

    code = "secret_unreadable"
    retryable = True


class _Answer(msgspec.Struct):
    SecretString: str


def read_secret(arn: str, *, region: str, endpoint: str, environ: Mapping[str, str]) -> Secret:
    """Return the text of a secret.

    Parameters
    ----------
    arn
        ARN or name.
    endpoint
        Another address than Amazon's; empty for Amazon's.
    environ
        Where credentials are found.

    Raises
    ------
    SecretUnreadable
        The service refuses or does not answer; its own words are not repeated.
    NoCredentials
        This process has none.
    """
    parts = urlsplit(endpoint or f"https://{service_host('secretsmanager', region)}")
    signer = Signer("secretsmanager", region, parts.netloc)
    credentials = find_credentials(environ)
    body = msgspec.json.encode({"SecretId": arn})
    failure = ""
    for attempt in range(ATTEMPTS):
        headers = signer.headers(credentials, body, target=TARGET, content_type=CONTENT_TYPE, now_s=time.time())
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        try:
            connection.request("POST", "/", body, headers)
            answer = connection.getresponse()
            data = answer.read()
            if answer.status == http.client.OK:
                return Secret(msgspec.json.decode(data, type=_Answer).SecretString)
            failure = f"the service answered {answer.status}"
            if answer.status < http.client.INTERNAL_SERVER_ERROR:
                break
        except (OSError, http.client.HTTPException) as error:
            failure = f"the service did not answer: {type(error).__name__}"
        except msgspec.DecodeError:
            failure = "it holds no text"
            break
        finally:
            connection.close()
        time.sleep(PAUSE_S * 2**attempt)
    raise SecretUnreadable(f"secret {arn} cannot be read ({failure}); is it there, and may this role read it?")
