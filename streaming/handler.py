"""Lambda's entry point for the stream: :func:`lambda_handler` over :func:`streaming.batches.apply_batch`."""

import functools
import gc
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fraud import velocity
from fraud.errors import StoreUnavailable
from fraud.settings import read_settings
from fraud.windows import ENTITIES
from streaming.applied import ChangeLog
from streaming.arrivals import Arrival, arrival_from_lambda
from streaming.batches import BatchResult, Collaborators, apply_batch
from streaming.deadletters import DeadLetterFolder
from streaming.folders import BucketFolder
from streaming.logs import log
from streaming.offline import TransactionLog
from streaming.opening import open_states


def lambda_handler(event: Mapping[str, Any], _context: object) -> dict[str, list[dict[str, str]]]:
    """Apply the batch of a Kinesis event source mapping that reports batch item failures."""
    with_logs = _from_environment()
    arrivals = [arrival_from_lambda(record) for record in event["Records"]]
    result = apply_batch(arrivals, with_logs.collaborators)
    try:
        with_logs.flush(arrivals)
    except StoreUnavailable as error:
        result.failed, result.error = 0, error
    counts = ("records", "applied", "repeated", "too_late", "dead_lettered")
    fields: dict[str, float | None] = {name: getattr(result, name) for name in counts}
    fields |= _percentiles("freshness", result.lags_ms) | _percentiles("event_freshness", result.ages_ms)
    log("batch_applied", **fields, error=result.error.code if result.error else None)
    return batch_item_failures(arrivals, result)


def batch_item_failures(arrivals: Sequence[Arrival], result: BatchResult) -> dict[str, list[dict[str, str]]]:
    """Return Lambda's partial batch response: the lowest failed sequence number, or nothing."""
    if result.failed is None:
        return {"batchItemFailures": []}
    return {"batchItemFailures": [{"itemIdentifier": arrivals[result.failed].sequence_number}]}


def _percentiles(name: str, values_ms: Sequence[int]) -> dict[str, float | None]:
    """Return what the log line of a batch says of its freshness; of nothing it is null."""
    ordered = sorted(values_ms)
    shares = (("p50", 0.5), ("p99", 0.99))
    return {f"{name}_{tag}_ms": ordered[int(share * (len(ordered) - 1))] if ordered else None for tag, share in shares}


@dataclass(frozen=True)
class _OnLambda:
    collaborators: Collaborators
    applied: ChangeLog
    transactions: TransactionLog

    def flush(self, arrivals: Sequence[Arrival]) -> None:
        """Write both logs under a name that no other batch and no other delivery of this one has."""
        first = arrivals[0] if arrivals else Arrival(b"", "0", "", "none", 0)
        name = f"{first.shard}-{first.sequence_number}-{time.time_ns()}"
        self.transactions.flush(name)
        self.applied.flush(name)


@functools.cache
def _from_environment() -> _OnLambda:
    """Return the collaborators of this Lambda instance, made at its first batch."""
    import boto3

    warm_up()
    settings = read_settings(os.environ)
    endpoint = settings.aws_endpoint or None
    bucket = BucketFolder(boto3.client("s3", region_name=settings.region, endpoint_url=endpoint), settings.bucket)
    applied, transactions = ChangeLog(bucket), TransactionLog(bucket)
    states = open_states(settings)
    sink = DeadLetterFolder(bucket)
    return _OnLambda(
        Collaborators(states, sink, applied, transactions, wall_clock_ms, settings.currency), applied, transactions
    )


def warm_up() -> None:
    """Get this process ready for its first record: load the compiled kernels and calm the garbage collector.

    A batch makes and drops some ten thousand objects and no cycles; looking for cycles among them and all that was
    imported costs a quarter of the throughput.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    for entity in ENTITIES:
        change = velocity.report_change("warm-up", 0)
        velocity.update_many(entity, [b""], change, np.array([0, 1], np.int64))


def wall_clock_ms() -> int:
    """Return the time of day, epoch ms."""
    return time.time_ns() // 1_000_000
