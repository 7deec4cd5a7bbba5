"""A small client: ask a scorer for a decision, over plain HTTP or through SageMaker's runtime.

Asking again is harmless, because a transaction's own id is what makes it one: so an answer that did not come, and one
that says the fault is on the other side, is asked for again within the same deadline. Hedging, a second question while
the first is still out, is off unless a delay is given. A refusal (4xx) is an answer and is never asked again.

>>> client = Client(HttpEndpoint("127.0.0.1", 8080), timeout_s=0.2)  # doctest: +SKIP
>>> client.decide(transaction).outcome  # doctest: +SKIP
'approve'
"""

import http.client
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from fraud.errors import TollgateError
from fraud.transaction import Transaction, encode_transaction
from serving.answers import Answer, ErrorAnswer

ATTEMPTS: Final = 3
PAUSE_S: Final = 0.01
"""Before the second attempt; it doubles."""


class NoAnswer(TollgateError):
    """The scorer gave no decision in time; the transaction may be asked about again."""

    code = "no_answer"
    retryable = True


class Refused(TollgateError):
    """The scorer refused the transaction; asking again changes nothing."""

    code = "refused"

    def __init__(self, status: int, error: ErrorAnswer) -> None:
        super().__init__(f"{status} {error.error.code}: {error.error.field} {error.error.reason}")
        self.status = status
        self.error = error.error


@dataclass(frozen=True)
class Reply:
    """Status and body of one attempt."""

    status: int
    body: bytes


class Endpoint(Protocol):
    """Where to ask."""

    def ask(self, body: bytes, *, inference_id: str, explain: bool, timeout_s: float) -> Reply:
        """Send one request; raise :class:`OSError` or :class:`NoAnswer` when no answer came."""


class HttpEndpoint:
    """A scorer spoken to directly; one kept connection per thread."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._kept = threading.local()

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._kept, "connection", None)
        if connection is not None:
            connection.close()

    def ask(self, body: bytes, *, inference_id: str, explain: bool, timeout_s: float) -> Reply:
        """Send one request on this thread's connection."""
        connection = getattr(self._kept, "connection", None)
        if connection is None:
            connection = self._kept.connection = http.client.HTTPConnection(*self._address)
        connection.timeout = timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        headers = {"content-type": "application/json"}
        if inference_id:
            headers["x-amzn-sagemaker-inference-id"] = inference_id
        try:
            connection.request("POST", "/invocations?explain=1" if explain else "/invocations", body, headers)
            response = connection.getresponse()
            return Reply(response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise NoAnswer(f"no answer from {self._address[0]}:{self._address[1]} ({type(error).__name__})") from None


class SageMakerEndpoint:
    """An endpoint behind SageMaker's runtime, which signs each request; needs boto3 where the caller runs."""

    def __init__(self, name: str, *, region: str, endpoint_url: str | None = None, timeout_s: float = 1.0) -> None:
        import boto3  # the container carries none
        from botocore.config import Config

        config = Config(connect_timeout=timeout_s, read_timeout=timeout_s, retries={"total_max_attempts": 1})
        self._client: Any = boto3.client(
            "sagemaker-runtime", region_name=region, endpoint_url=endpoint_url, config=config
        )
        self._name = name

    def ask(self, body: bytes, *, inference_id: str, explain: bool, timeout_s: float) -> Reply:  # noqa: ARG002  # boto3 sets its timeout per client
        """Send one request through the runtime."""
        from botocore.exceptions import BotoCoreError, ClientError

        options = {"InferenceId": inference_id} if inference_id else {}
        if explain:
            options["CustomAttributes"] = "explain"
        try:
            reply = self._client.invoke_endpoint(
                EndpointName=self._name, ContentType="application/json", Body=body, **options
            )
            return Reply(200, reply["Body"].read())
        except ClientError as error:
            response = error.response
            said = str(response.get("OriginalMessage", "")).encode()
            status = response.get("OriginalStatusCode") or response["ResponseMetadata"]["HTTPStatusCode"]
            return Reply(int(status), said)
        except BotoCoreError as error:
            raise NoAnswer(f"no answer from endpoint {self._name} ({type(error).__name__})") from None


class Client:
    """Asks for decisions.

    Parameters
    ----------
    timeout_s
        For all attempts together.
    attempts
        At most; 1 never asks again.
    hedge_after_s
        Ask a second time when the first answer has not come after this long and take whichever is first; null never.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout_s: float = 0.25,
        attempts: int = ATTEMPTS,
        hedge_after_s: float | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._hedge_after_s = hedge_after_s
        self._pool = ThreadPoolExecutor(4, "hedge") if hedge_after_s is not None else None

    def close(self) -> None:
        """End the threads of hedging."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def decide(self, transaction: Transaction, *, inference_id: str = "", explain: bool = False) -> Answer:
        """Return the decision on a transaction.

        Raises
        ------
        NoAnswer
            None came within the timeout.
        Refused
            The scorer refuses the transaction.
        """
        body = encode_transaction(transaction)
        deadline = time.monotonic() + self._timeout_s
        pause, last = PAUSE_S, "the timeout was over before the first attempt"
        for attempt in range(self._attempts):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            try:
                reply = self._ask(body, inference_id, explain=explain, timeout_s=left)
            except NoAnswer as error:
                last = str(error)
            else:
                if reply.status < 500 and reply.status not in (408, 429):
                    return _read(reply)
                last = f"the scorer answered {reply.status}"
            if attempt + 1 < self._attempts:
                time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
                pause *= 2.0
        raise NoAnswer(f"no decision within {self._timeout_s:g} s: {last}")

    def _ask(self, body: bytes, inference_id: str, *, explain: bool, timeout_s: float) -> Reply:
        if self._pool is None:
            return self._endpoint.ask(body, inference_id=inference_id, explain=explain, timeout_s=timeout_s)

        def ask() -> Reply:
            return self._endpoint.ask(body, inference_id=inference_id, explain=explain, timeout_s=timeout_s)

        asked: set[Future[Reply]] = {self._pool.submit(ask)}
        done, _ = wait(asked, self._hedge_after_s)
        if not done:
            asked.add(self._pool.submit(ask))
        failed: NoAnswer | None = None
        until = time.monotonic() + timeout_s
        while asked:
            done, asked = wait(asked, max(0.0, until - time.monotonic()), FIRST_COMPLETED)
            if not done:
                break
            for future in done:
                try:
                    return future.result()
                except NoAnswer as error:
                    failed = error
        raise failed or NoAnswer("neither of two questions was answered in time")


def _read(reply: Reply) -> Answer:
    try:
        if reply.status == 200:
            return msgspec.json.decode(reply.body, type=Answer)
        raise Refused(reply.status, msgspec.json.decode(reply.body, type=ErrorAnswer))
    except msgspec.DecodeError:
        raise NoAnswer(f"the scorer answered {reply.status} with something that is no decision") from None
