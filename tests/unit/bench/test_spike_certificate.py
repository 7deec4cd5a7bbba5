"""The spike certificate says what it saw, and does not hold when it should not."""

from pathlib import Path

import numpy as np
import pytest

from bench.spike_certificate import HANDFUL, _figures, _show, _verdict
from bench.spike_load import Sent
from bench.spike_phases import phases
from fraud.tiers import TIERS

STAGES = phases(100.0)
BEGINS = list(np.cumsum([0.5, *(phase.seconds for phase in STAGES[:-1])]))
COUNT = 200
"""Requests of each phase."""


def seen(*, late: int = 0, status: int = 200, unanswered: int = 0) -> Sent:
    """Return what a certificate would see: ``late`` late answers, and others like these, in the third phase."""
    due = np.concatenate(
        [begin + np.linspace(0.0, phase.seconds * 0.9, COUNT) for phase, begin in zip(STAGES, BEGINS, strict=True)]
    )
    latency = np.full(len(due), 0.004)
    statuses = np.full(len(due), 200)
    tier = np.zeros(len(due), np.int64)
    third = slice(2 * COUNT, 3 * COUNT)
    latency[third][:late] = 0.08
    statuses[third][-1] = status
    statuses[third][:unanswered] = 0
    tier[third][:7] = TIERS.index("request_only")
    return Sent(due, latency, np.zeros(len(due)), statuses, tier)


@pytest.mark.parametrize(
    ("sent", "held"),
    [
        (seen(), True),
        (seen(late=HANDFUL), True),
        (seen(late=HANDFUL + 1), False),
        (seen(status=503), False),
        (seen(status=422), False),
        (seen(unanswered=1), False),
    ],
)
def test_a_late_a_failed_and_a_lost_request_break_it(sent: Sent, held: bool) -> None:
    figures = _figures(sent, STAGES, BEGINS)
    assert figures["held"] is held
    assert _verdict(figures).startswith("Held" if held else "NOT held")


def test_tiers_are_counted_by_phase_and_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    figures = _figures(seen(late=2), STAGES, BEGINS)
    third = figures["phases"][2]
    assert third["tiers"] == {"full": COUNT - 7, "partial": 0, "no_velocity": 0, "request_only": 7}
    assert (third["over_deadline"], third["late_at_most"]) == (2, HANDFUL)
    assert figures["degraded_while_well"] == 7
    _show(figures | {"cpu_us": 1.0}, tmp_path)
    printed = capsys.readouterr().out
    assert "request only" in printed
    assert all(phase.name in printed for phase in STAGES)
