"""What of the live hour is worth showing: how each fraud type was answered, and a few decisions with their reasons."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from demo.figures import HourShape, Shown
from demo.history import Story, event_times
from demo.replay import Answers, replace_unknown
from fraud.transaction import Transaction, encode_transaction
from fraud.windows import MINUTE


def fraud_types(truth: pa.Table) -> dict[str, str]:
    """Return the fraud type of each transaction, by its id; empty for a legitimate one."""
    kinds = [kind or "" for kind in truth["fraud_type"].to_pylist()]
    return dict(zip(truth["transaction_id"].to_pylist(), kinds, strict=True))


def hour_shape(story: Story, types: Mapping[str, str]) -> HourShape:
    """Return how many payments each minute had, before and in the live hour, and how many were card testing."""
    start, time = story.live_start_ms, event_times(story.live)
    minutes = int(time[-1] - start) // MINUTE + 1
    testing = np.array([types[name] == "card_testing" for name in story.live["transaction_id"].to_pylist()])
    return HourShape(
        before=_by_minute(story.before_ms, start - minutes * MINUTE, minutes),
        during=_by_minute(time, start, minutes),
        testing=_by_minute(time[testing], start, minutes),
    )


def _by_minute(time_ms: npt.NDArray[np.int64], start_ms: int, minutes: int) -> tuple[int, ...]:
    minute = (time_ms - start_ms) // MINUTE
    return tuple(np.bincount(minute[(minute >= 0) & (minute < minutes)], minlength=minutes).tolist())


def outcomes_by_type(answers: Answers, types: dict[str, str]) -> dict[str, dict[str, int]]:
    """Return, per fraud type (legitimate included), how often each outcome was answered."""
    counts: dict[str, dict[str, int]] = {}
    for name, decision in answers.decisions.items():
        row = counts.setdefault(types.get(name) or "legitimate", {"approve": 0, "review": 0, "decline": 0})
        row[decision["outcome"]] += 1
    return dict(sorted(counts.items()))


def _is_caught(decision: Mapping[str, Any]) -> bool:
    return bool(decision.get("reasons")) and decision["outcome"] != "approve"


def worth_showing(
    hour: Sequence[Transaction], answers: Answers, types: dict[str, str], count: int = 3
) -> tuple[Shown, ...]:
    """Return caught frauds with reasons, of different types where there are, the highest scores first."""
    caught = [
        (types[t.transaction_id], t, answers.decisions[t.transaction_id])
        for t in hour
        if types.get(t.transaction_id) and _is_caught(answers.decisions.get(t.transaction_id, {}))
    ]
    caught.sort(key=lambda item: -item[2]["score"])
    chosen: list[tuple[str, Transaction, dict[str, Any]]] = []
    for item in caught:
        if len(chosen) < count and item[0] not in {kind for kind, _, _ in chosen}:
            chosen.append(item)
    chosen += [item for item in caught if item not in chosen][: count - len(chosen)]
    return tuple(
        Shown(
            kind,
            {
                "amount": f"{t.amount_minor / 100:.2f} {t.currency}",
                "channel": t.channel,
                "country": t.country,
                "card": t.card_id,
                "merchant": t.merchant_id,
            },
            decision,
        )
        for kind, t, decision in chosen
    )


def curl_line(transaction: Transaction, port: int) -> str:
    """Return a command that asks the scorer about a payment like one of the hour."""
    asked = msgspec.structs.replace(replace_unknown(transaction), transaction_id="mine-1")
    body = encode_transaction(asked).decode()
    return f"curl -H 'content-type: application/json' http://127.0.0.1:{port}/invocations -d {shlex.quote(body)}"
