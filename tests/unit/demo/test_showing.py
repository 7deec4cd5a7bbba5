import json
import shlex

import msgspec
import numpy as np
import pyarrow as pa

from demo.history import Story
from demo.replay import Answers
from demo.showing import curl_line, fraud_types, hour_shape, outcomes_by_type, worth_showing
from fraud.transaction import Transaction, parse_transaction
from retraining.weekly import WeekPlan
from tests.support.scorers import NOW, payment

MINUTE = 60_000
START = NOW // MINUTE * MINUTE


def hour(kinds: list[str | None], minutes: list[float]) -> tuple[list[Transaction], Story]:
    payments = [payment(number, event_time_ms=START + int(minute * MINUTE)) for number, minute in enumerate(minutes)]
    ids = [each.transaction_id for each in payments]
    times = pa.array([each.event_time_ms * 1000 for each in payments], pa.timestamp("us", "UTC"))
    live = pa.table({"transaction_id": ids, "event_timestamp": times})
    truth = pa.table({"transaction_id": ids, "fraud_type": pa.array(kinds, pa.string())})
    before = START - np.array([1, 2, 59_999, 60_000, 3 * MINUTE, 50 * MINUTE], np.int64)
    plan = WeekPlan(train_days=3, validation_days=1, test_days=1, label_delay_days=1, seed=0)
    return payments, Story("simulated", START, live, truth, before, plan, 14, 0.5)


def test_hour_is_counted_by_minute_beside_as_long_a_time_before_it() -> None:
    _, story = hour(["card_testing", None, "card_testing", "cash_out", None], [0.0, 0.5, 2.0, 2.1, 4.999])
    shape = hour_shape(story, fraud_types(story.live_truth))
    assert shape.during == (2, 0, 2, 0, 1)
    assert shape.testing == (1, 0, 1, 0, 0)
    assert shape.before == (0, 0, 1, 0, 4)  # the fifty minutes back are further than the hour is long


def test_a_decision_of_each_type_is_shown_before_a_second_of_one() -> None:
    kinds = ["card_testing", "card_testing", "card_testing", "cash_out", None, "mule_merchant"]
    payments, story = hour(kinds, [0.0] * 6)
    answers = Answers()
    for number, each in enumerate(payments):
        reasons = [] if kinds[number] == "mule_merchant" else [{"text": "why"}]
        outcome = "approve" if kinds[number] is None else "decline"
        answers.decisions[each.transaction_id] = {"outcome": outcome, "score": number / 10, "reasons": reasons}
    types = fraud_types(story.live_truth)
    shown = worth_showing(payments, answers, types)
    assert [(one.fraud_type, one.decision["score"]) for one in shown] == [
        ("cash_out", 0.3),
        ("card_testing", 0.2),
        ("card_testing", 0.1),
    ]
    counted = outcomes_by_type(answers, types)
    assert counted["legitimate"] == {"approve": 1, "review": 0, "decline": 0}
    assert counted["card_testing"] == {"approve": 0, "review": 0, "decline": 3}


def test_curl_line_sends_a_payment_that_the_scorer_takes() -> None:
    known = payment(3, merchant_id="joe's shop", authorised=True)
    *_, address, _, body = words = shlex.split(curl_line(known, 8181))
    assert words[:3] == ["curl", "-H", "content-type: application/json"]
    assert address == "http://127.0.0.1:8181/invocations"
    asked = parse_transaction(body.encode(), currency="EUR")
    assert asked == msgspec.structs.replace(known, transaction_id="mine-1", authorised=None)
    assert json.loads(body)["merchant_id"] == "joe's shop"
