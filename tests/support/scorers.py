"""A real scorer process on loopback, and an online store filled as the stream and the materialisation fill it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import redis

from fraud import velocity
from fraud.transaction import Transaction, encode_transaction
from fraud.windows import ENTITIES, JOIN_KEYS, Entity
from stores.guards import state_fields, state_view, value_fields
from stores.layout import Value, encode_timestamp, entity_key, timestamp_field
from tests.support.bundles import PROJECT
from tests.support.emulators import free_port

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
NOW = 1_770_000_000_000
Answer = dict[str, Any]


def payment(number: int = 1, **changes: Any) -> Transaction:
    """Return one payment; equal numbers are equal payments."""
    fields: dict[str, Any] = {
        "transaction_id": f"t{number:06d}",
        "card_id": f"c{number % 20}",
        "merchant_id": f"m{number % 7}",
        "device_id": f"d{number % 11}",
        "ip": f"i{number % 9}",
        "amount_minor": 1000 + 37 * (number % 100),
        "currency": "EUR",
        "event_time_ms": NOW + number,
        "channel": "online",
        "merchant_category": 5411,
        "country": "DE",
        "latitude": 52.5,
        "longitude": 13.4,
    }
    return Transaction(**{**fields, **changes})


def history(count: int = 600) -> list[Transaction]:
    """Return earlier payments of the same cards, devices, addresses and merchants, in the ten days before ``NOW``."""
    step = 10 * 86_400_000 // count
    return [
        payment(number, transaction_id=f"h{number:06d}", event_time_ms=NOW - (count - number) * step)
        for number in range(count)
    ]


def states_after(transactions: Iterable[Transaction]) -> dict[tuple[Entity, str], tuple[bytes, int]]:
    """Return the velocity state that ``transactions`` leave behind in each of their entities, and its revision."""
    states: dict[tuple[Entity, str], tuple[bytes, int]] = {}
    for transaction in transactions:
        for entity in ENTITIES:
            key = velocity.entity_key(entity, transaction)
            if key is not None:
                state, revision = states.get((entity, key), (b"", 0))
                change = velocity.transaction_change(entity, transaction)
                states[entity, key] = velocity.update(entity, state, change)[0], revision + 1
    return states


def fill_states(client: "redis.Redis[bytes]", transactions: Iterable[Transaction]) -> None:
    """Write the velocity state that ``transactions`` leave behind in each of their entities."""
    states = states_after(transactions)
    pipe: Any = client.pipeline(transaction=False)
    for (entity, key), (state, revision) in states.items():
        fields = state_fields(state_view(entity), state, revision, velocity.newest_time_ms(entity, state))
        pipe.execute_command("HSET", entity_key(JOIN_KEYS[entity], key, PROJECT), *fields)
    pipe.execute()


def fill_profile(
    client: "redis.Redis[bytes]", entity: str, key: str, time_ms: int, values: Mapping[str, Value]
) -> None:
    """Write the batch profile of one entity as materialised at a time."""
    view = f"{entity}_profile"
    fields = [*value_fields(view, values), timestamp_field(view), encode_timestamp(time_ms)]
    pipe: Any = client.pipeline(transaction=False)
    pipe.execute_command("HSET", entity_key(f"{entity}_id", key, PROJECT), *fields)
    pipe.execute()


@dataclass
class Scorer:
    """A running scorer."""

    port: int
    process: "subprocess.Popen[bytes]"
    lines: list[bytes] = field(default_factory=list)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Send one request on its own connection; return status and body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, {"content-type": "application/json", **(headers or {})})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def heads(self, method: str, path: str) -> tuple[int, dict[str, str]]:
        """Send one request without a body; return status and headers, their names in lower case."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            response.read()
            return response.status, {name.lower(): value for name, value in response.getheaders()}
        finally:
            connection.close()

    def invoke(self, body: Transaction | bytes, headers: Mapping[str, str] | None = None) -> tuple[int, Answer]:
        """Post to ``/invocations``; return status and decoded answer."""
        data = encode_transaction(body) if isinstance(body, Transaction) else body
        status, answer = self.request("POST", "/invocations", data, headers)
        return status, json.loads(answer)

    def decide(self, transaction: Transaction, **headers: str) -> Answer:
        """Return the decision on a transaction."""
        status, answer = self.invoke(transaction, headers)
        assert status == 200, answer
        return answer

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        _, text = self.request("GET", "/metrics")
        lines = [line for line in text.decode().splitlines() if line.startswith((name + " ", name + "{"))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def events(self, name: str) -> list[Answer]:
        """Return what was logged under an event name so far."""
        logged = [json.loads(line) for line in self.lines if line.startswith(b"{")]
        return [line for line in logged if line["event"] == name]

    def stop(self) -> int:
        """Ask the scorer to drain; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


def scorer_environment(**settings: object) -> dict[str, str]:
    """Return this process's environment with these settings and no other of ours.

    Requests have all the time they need unless a test says otherwise: a busy machine must not degrade its answers.
    """
    settings = {"request_budget_ms": 60_000, **settings}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TOLLGATE_")}
    return {**clean, **{f"TOLLGATE_{name.upper()}": str(value) for name, value in settings.items()}}


@contextmanager
def start_scorer(model_dir: Path, redis_port: int, **settings: object) -> Iterator[Scorer]:
    """Run ``serving`` as its own process until it answers ``/ping``; kill it in the end."""
    port = int(str(settings.pop("bind_port", 0))) or free_port()
    environment = scorer_environment(bind_port=port, model_dir=model_dir, redis_port=redis_port, **settings)
    process = subprocess.Popen(
        [sys.executable, "-m", "serving", "serve"], cwd=ROOT, env=environment, stderr=subprocess.PIPE
    )
    scorer = Scorer(port, process)
    reader = threading.Thread(target=_collect, args=(scorer,), daemon=True)
    reader.start()
    try:
        await_true(lambda: process.poll() is not None or _answers(scorer))
        if process.poll() is not None:
            raise RuntimeError(f"the scorer ended: {b''.join(scorer.lines).decode()}")
        yield scorer
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join(5)
        if process.stderr is not None:
            process.stderr.close()


def await_true(holds: Any, patience_s: float = PATIENCE_S) -> None:
    """Wait until ``holds()`` does."""
    deadline = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError("what the test waits for did not happen")
        time.sleep(0.02)


def _answers(scorer: Scorer) -> bool:
    try:
        return scorer.request("GET", "/ping")[0] == 200
    except OSError:
        return False


def _collect(scorer: Scorer) -> None:
    if scorer.process.stderr is not None:
        for line in scorer.process.stderr:
            scorer.lines.append(line)  # seen by others while it grows
