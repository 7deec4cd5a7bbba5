"""One secret out of AWS Secrets Manager, at the start of a process, with neither boto3 nor a wait without bound."""

import time
from collections.abc import Mapping
from typing import Final

import msgspec

from fraud.errors import StoreUnavailable, TollgateError
from fraud.settings import Secret
from stores.aws_call import AwsCalls

TARGET: Final = "secretsmanager.GetSecretValue"
TIMEOUT_S: Final = 5.0
ATTEMPTS: Final = 3
PAUSE_S: Final = 0.2
_OK: Final = 200
_THEIRS: Final = 500


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
    service = AwsCalls("secretsmanager", region, endpoint, environ=environ, timeout_s=TIMEOUT_S)
    body, failure = msgspec.json.encode({"SecretId": arn}), ""
    for attempt in range(ATTEMPTS):
        time.sleep(PAUSE_S * attempt)
        try:
            status, data = service.post(TARGET, body)
            if status == _OK:
                return Secret(msgspec.json.decode(data, type=_Answer).SecretString)
            failure = f"the service answered {status}"
            if status < _THEIRS:
                break
        except StoreUnavailable as error:
            failure = str(error)
        except msgspec.DecodeError:
            failure = "it holds no text"
            break
        finally:
            service.close()
    raise SecretUnreadable(f"secret {arn} cannot be read ({failure}); is it there, and may this role read it?")
