"""Decisions as the scorer hands them to its log."""

import numpy as np

from fraud.features import FEATURE_NAMES, NO_PROFILES
from fraud.policy import Decision, Reason
from fraud.windows import ENTITIES
from serving.decisions import Made
from serving.online import Online
from stores.layout import encode_timestamp, encode_value
from tests.support.scorers import NOW, payment


def made(number: int) -> Made:
    """Return one decision, one a minute, with a value of the vector missing; equal numbers are equal decisions."""
    vector = np.random.default_rng(number).gamma(1.0, 20.0, len(FEATURE_NAMES))
    vector[number % 7] = np.nan
    reasons = (Reason("velocity", "7 cards on this device", 1.5),) if number % 3 == 0 else ()
    decision = Decision(f"d{number}", f"t{number:06d}", "review", number / 1000, reasons, "model", "policy", ())
    times = {"card_velocity": encode_timestamp(NOW), "merchant_velocity": None}
    revisions = {"card": encode_value(3)}
    online = Online(dict.fromkeys(ENTITIES, b""), NO_PROFILES, (), (), (), revisions, times)  # type: ignore[arg-type]
    return Made(payment(number), vector, online, decision, NOW + number * 60_000, 0.001)
