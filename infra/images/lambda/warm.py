"""Compiles the stream's kernels into ``NUMBA_CACHE_DIR`` while the image is built, so that no cold start compiles.

It takes a payment and a report into every kind of entity's state, alone and in a batch: what the handler does.
"""

import numpy as np

from fraud import velocity
from fraud.transaction import Transaction
from fraud.windows import ENTITIES


def main() -> None:
    """Warm."""
    report = velocity.report_change("warm", 2)
    for entity in ENTITIES:
        payment = velocity.transaction_change(entity, PAYMENT)
        state = b""
        for change in (payment, report):
            state, _ = velocity.update(entity, state, change)
        both = np.concatenate([payment, report])
        velocity.update_many(entity, [b"", state], np.concatenate([both, both]), np.array([0, 2, 4]))


PAYMENT = Transaction(
    transaction_id="warm",
    card_id="warm",
    merchant_id="warm",
    device_id="warm",
    ip="warm",
    amount_minor=1,
    currency="EUR",
    event_time_ms=1,
    channel="online",
    merchant_category=5411,
    country="DE",
    latitude=0.0,
    longitude=0.0,
)


if __name__ == "__main__":
    main()
