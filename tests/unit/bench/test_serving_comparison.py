"""The comparison says which targets are met, and where a peer was driven beyond what it can serve."""

from typing import Any

import pytest

from bench import serving_comparison as comparison
from bench.http_load import Load
from bench.serving_comparison import Contender
from bench.serving_processes import Running

CPU_US = {
    comparison.OURS: 200.0,
    comparison.USUAL: 18_000.0,
    comparison.TUNED: 6_000.0,
    comparison.FEAST: 15_000.0,
    comparison.FLASK: 900.0,
    comparison.OURS_WHY: 700.0,
    comparison.CONTRIBS: 3_000.0,
    comparison.USUAL_WHY: 26_000.0,
    comparison.TUNED_WHY: 8_000.0,
    comparison.FLOOR: 70.0,
    comparison.ECHO: 30.0,
}


@pytest.fixture
def contenders() -> list[Contender]:
    made = [Contender(name, Running(0, 0), [], 1, [cost], [1e6 / cost]) for name, cost in CPU_US.items()]
    for contender in made:
        for rate in comparison._rates(contender):
            beyond = rate > 1e6 / CPU_US[contender.name]
            count = rate * 2
            contender.open[rate] = [Load(9.0 if beyond else 2.2, [1.0 if beyond else 0.004] * count, due_s=2.0)]
    return made


def test_every_contender_is_driven_at_rates_that_it_can_serve(contenders: list[Contender]) -> None:
    rates = {contender.name: list(contender.open) for contender in contenders}
    assert rates[comparison.USUAL] == rates[comparison.FEAST] == rates[comparison.USUAL_WHY][:2] == [5, 20]
    assert rates[comparison.TUNED] == [5, 20, 50, 500]
    assert rates[comparison.OURS] == [50, 200, 500, 1000]
    saturated = {(c.name, rate) for c in contenders for rate in c.open if c.saturates(rate)}
    assert saturated == {(comparison.TUNED, 500)}


def test_targets_are_shown_with_whether_they_are_met(
    contenders: list[Contender], capsys: pytest.CaptureFixture[str]
) -> None:
    figures: dict[str, Any] = comparison._figures(contenders)
    met = {found["name"]: found["met"] for found in figures["ratios"]}
    assert met["requests per core: ours / (a)"] is True
    assert met["p99 at 500/s, which saturates (b): (b) / ours"] is True
    assert met["p99 at 50/s, which (b) sustains: (b) / ours"] is False
    assert met["exact reasons on every row: ours / (a) with pred_contribs"] is True
    assert met["exact reasons on every row: ours / ours with pred_contribs"] is False
    assert met["requests per core: ours / (d), which only scores"] is None
    comparison._show(figures | {"largest_score_difference": 0.0})
    printed = capsys.readouterr().out
    assert "no, its queue grows" in printed
    assert "NO" in printed
