"""A small client: ask a scorer for a decision, over plain HTTP or through SageMaker's runtime.

Asking again is harmless, because a transaction's own id is what makes it one: so an answer that did not come, and one
that says the fault is on the other side, is asked for again within the same deadline. Hedging, a second question while
the first is still out, is off unless a delay is given. A refusal (4xx) is an answer and is never asked again.

>>> client = Client(HttpEndpoint("127.0.0.1", 8080), timeout_s=0.2)  # doctest: +SKIP
>>> client.decide(transaction).outcome  # doctest: +SKIP
'approve'
"""

import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import quote, urlsplit

import msgspec

from fraud.errors import TollgateError
from fraud.transaction import Transaction, encode_transaction
from serving.answers import Answer, ErrorAnswer
from serving.timed_http import TimedHttp

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

    def ask(self, body: bytes, *, inference_id: str, explain: bool, deadline: float) -> Reply:
        """Send one request; raise :class:`OSError` or :class:`NoAnswer` when no answer came.

        ``deadline`` is a reading of the monotonic clock, by which it has come or never will.
        """


class HttpEndpoint:
    """A scorer spoken to directly; one kept connection per thread."""

    def __init__(self, host: str, port: int) -> None:
        self._http = TimedHttp(host, port)
        self._name = f"{host}:{port}"

    def __str__(self) -> str:
        return self._name

    def close(self) -> None:
        """Close this thread's connection."""
        self._http.close()

    def ask(self, body: bytes, *, inference_id: str, explain: bool, deadline: float) -> Reply:
        """Send one request on this thread's connection."""
        headers = {"content-type": "application/json"}
        if inference_id:
            headers["x-amzn-sagemaker-inference-id"] = inference_id
        path = "/invocations?explain=1" if explain else "/invocations"
        return Reply(*self._http.post(path, body, headers, deadline=deadline))


class SageMakerEndpoint:
    """An endpoint behind SageMaker's runtime, which signs each request; needs boto3 where the caller runs.

    Of boto3 it takes the address, the keys and the signature. It asks by itself, because boto3's timeouts are those of
    a client, not of a request. Temporary keys are renewed by boto3, on the thread that asks, minutes before they end.
    """

    def __init__(self, name: str, *, region: str, endpoint_url: str | None = None) -> None:
        import boto3  # the container carries none

        session = boto3.Session(region_name=region)
        self._url = session.client("sagemaker-runtime", endpoint_url=endpoint_url).meta.endpoint_url
        self._credentials: Any = session.get_credentials()
        parts = urlsplit(self._url)
        tls = parts.scheme == "https"
        self._http = TimedHttp(parts.hostname or "", parts.port or (443 if tls else 80), tls=tls)
        self._path = f"/endpoints/{quote(name)}/invocations"
        self._name = f"endpoint {name}"
        self._region = region

    def __str__(self) -> str:
        return self._name

    def close(self) -> None:
        """Close this thread's connection."""
        self._http.close()

    def ask(self, body: bytes, *, inference_id: str, explain: bool, deadline: float) -> Reply:
        """Send one request through the runtime."""
        headers = {"content-type": "application/json"}
        if inference_id:
            headers["x-amzn-sagemaker-inference-id"] = inference_id
        if explain:
            headers["x-amzn-sagemaker-custom-attributes"] = "explain"
        status, said = self._http.post(self._path, body, self._signed(body, headers), deadline=deadline)
        if status == 200:
            return Reply(status, said)
        try:
            failure = msgspec.json.decode(said, type=_Failure)
        except msgspec.DecodeError:
            return Reply(status, said)
        return Reply(failure.status or status, failure.message.encode())

    def _signed(self, body: bytes, headers: Mapping[str, str]) -> dict[str, str]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        if self._credentials is None:
            raise NoAnswer("there are no AWS credentials")
        request = AWSRequest("POST", self._url.rstrip("/") + self._path, headers=dict(headers), data=body)
        SigV4Auth(self._credentials.get_frozen_credentials(), "sagemaker", self._region).add_auth(request)
        return dict(request.headers.items())


class _Failure(msgspec.Struct):
    """What the runtime says when the model refused: the model's own status and words."""

    status: int | None = msgspec.field(name="OriginalStatusCode", default=None)
    message: str = msgspec.field(name="OriginalMessage", default="")


class Client:
    """Asks for decisions.

    Parameters
    ----------
    timeout_s
        For all attempts together: the deadline of each is the end of it, however little a server sends at a time.
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
            if time.monotonic() >= deadline:
                break
            try:
                reply = self._ask(body, inference_id, explain=explain, deadline=deadline)
            except OSError as error:
                last = f"no answer from {self._endpoint} ({type(error).__name__})"
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

    def _ask(self, body: bytes, inference_id: str, *, explain: bool, deadline: float) -> Reply:
        def ask() -> Reply:
            return self._endpoint.ask(body, inference_id=inference_id, explain=explain, deadline=deadline)

        if self._pool is None or self._hedge_after_s is None:
            return ask()
        asked: set[Future[Reply]] = {self._pool.submit(ask)}
        done, _ = wait(asked, max(0.0, min(self._hedge_after_s, deadline - time.monotonic())))
        if not done:
            asked.add(self._pool.submit(ask))
        failed: NoAnswer | OSError | None = None
        while asked:
            done, asked = wait(asked, max(0.0, deadline - time.monotonic()), FIRST_COMPLETED)
            if not done:
                break
            for future in done:
                try:
                    return future.result()
                except (NoAnswer, OSError) as error:
                    failed = error
        raise failed or NoAnswer("neither of two questions was answered in time")


def _read(reply: Reply) -> Answer:
    try:
        if reply.status == 200:
            return msgspec.json.decode(reply.body, type=Answer)
        raise Refused(reply.status, msgspec.json.decode(reply.body, type=ErrorAnswer))
    except msgspec.DecodeError:
        raise NoAnswer(f"the scorer answered {reply.status} with something that is no decision") from None
