"""All workers' metrics in one text: nothing is counted twice, nothing falls when a worker is replaced."""

from serving.metrics import Gauge, Metrics
from serving.totals import Totals


def value(text: bytes, sample: str) -> float:
    (found,) = [line for line in text.decode().splitlines() if line.startswith(sample + " ")]
    return float(found.rpartition(" ")[2])


def worker(breaker: float) -> Metrics:
    metrics = Metrics()
    metrics.gauges.append(Gauge("tollgate_store_breaker", "State.", lambda: {(): breaker}))
    return metrics


def test_one_worker_shows_what_it_would_show_alone() -> None:
    metrics = worker(0.0)
    metrics.latency.add(0.003, ("m", "store"))
    metrics.decisions.add(("m", "p", "approve", "false"), 1_234_567_890_123)
    shown = Totals(1).of_worker(0, metrics.render).render()
    assert shown == metrics.render()


def test_counters_and_histograms_are_summed_and_of_gauges_the_highest_is_shown() -> None:
    totals, one, two = Totals(3), worker(0.0), worker(2.0)
    first, second = totals.of_worker(0, one.render), totals.of_worker(1, two.render)
    one.tiers.add(("m", "full"), 3)
    two.tiers.add(("m", "full"), 4)
    two.tiers.add(("m", "partial"))
    one.latency.add(0.003, ("m", "store"))
    two.latency.add(0.3, ("m", "store"))
    second.publish()
    for text in (first.render(), first.render()):
        assert value(text, 'tollgate_tiers_total{model_version="m",tier="full"}') == 7
        assert value(text, 'tollgate_tiers_total{model_version="m",tier="partial"}') == 1
        assert value(text, 'tollgate_latency_seconds_count{model_version="m",stage="store"}') == 2
        assert value(text, 'tollgate_latency_seconds_bucket{model_version="m",stage="store",le="0.005"}') == 1
        assert value(text, "tollgate_store_breaker") == 2
        assert text.count(b"# TYPE tollgate_tiers_total counter") == 1


def test_the_successor_of_a_worker_goes_on_from_its_counts_and_not_from_its_gauges() -> None:
    totals, dead, heir, other = Totals(2), worker(2.0), worker(0.0), worker(0.0)
    before = totals.of_worker(0, dead.render)
    dead.decisions_lost.add(count=5)
    before.publish()
    after, beside = totals.of_worker(0, heir.render), totals.of_worker(1, other.render)
    heir.decisions_lost.add(count=1)
    for _ in range(3):
        after.publish()
    assert value(beside.render(), "tollgate_decisions_lost_total") == 6
    assert value(beside.render(), "tollgate_store_breaker") == 0
