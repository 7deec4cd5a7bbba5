from serving.metrics import Counter, Gauge, Histogram, Metrics


def test_a_counter_counts_by_label() -> None:
    counter = Counter("c_total", "About.", ("view",))
    counter.add(("a",))
    counter.add(("a",), 2)
    counter.add(("b",))
    assert counter.total() == 4
    assert list(counter.lines())[2:] == ['c_total{view="a"} 3', 'c_total{view="b"} 1']


def test_a_histogram_is_cumulative_and_bounds_are_inclusive() -> None:
    histogram = Histogram("h", "About.", (1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.add(value)
    assert list(histogram.lines())[2:] == [
        'h_bucket{le="1.0"} 2',
        'h_bucket{le="2.0"} 3',
        'h_bucket{le="+Inf"} 4',
        "h_sum 12",
        "h_count 4",
    ]


def test_a_gauge_is_read_when_asked() -> None:
    held = [1.0]
    gauge = Gauge("g", "About.", lambda: {(): held[0]})
    held[0] = 2.0
    assert list(gauge.lines())[-1] == "g 2"


def test_counters_without_labels_are_there_before_anything_happened() -> None:
    text = Metrics().render().decode()
    assert "tollgate_decisions_lost_total 0\n" in text
    assert "tollgate_store_timeouts_total 0\n" in text
