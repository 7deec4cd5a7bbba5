"""Counters, gauges and histograms in Prometheus' text format: a dictionary each, cheap enough for every request.

Writers are the event loop and two background threads; each metric is written by one of them, so none needs a lock.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Final

Labels = tuple[str, ...]

LATENCY_BOUNDS: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)
SCORE_BOUNDS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def _labelled(names: Labels, values: Labels) -> str:
    pairs = ",".join(f'{name}="{value}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}" if pairs else ""


class Counter:
    """Only ever grows."""

    def __init__(self, name: str, about: str, labels: Labels = ()) -> None:
        self.name = name
        self._about = about
        self._labels = labels
        self.values: dict[Labels, int] = {} if labels else {(): 0}

    def add(self, labels: Labels = (), count: int = 1) -> None:
        """Count ``count`` more."""
        self.values[labels] = self.values.get(labels, 0) + count

    def total(self) -> int:
        """Return the sum over all labels."""
        return sum(self.values.values())

    def lines(self) -> Iterator[str]:
        """Yield the lines of the text format."""
        yield f"# HELP {self.name} {self._about}"
        yield f"# TYPE {self.name} counter"
        for labels, value in list(self.values.items()):
            yield f"{self.name}{_labelled(self._labels, labels)} {value}"


class Gauge:
    """Read when it is asked for."""

    def __init__(self, name: str, about: str, read: Callable[[], dict[Labels, float]], labels: Labels = ()) -> None:
        self.name = name
        self._about = about
        self._labels = labels
        self._read = read

    def lines(self) -> Iterator[str]:
        """Yield the lines of the text format."""
        yield f"# HELP {self.name} {self._about}"
        yield f"# TYPE {self.name} gauge"
        for labels, value in self._read().items():
            yield f"{self.name}{_labelled(self._labels, labels)} {value:g}"


class Histogram:
    """Counts values by the smallest bound that holds them."""

    def __init__(self, name: str, about: str, bounds: Sequence[float], labels: Labels = ()) -> None:
        self.name = name
        self._about = about
        self.bounds = tuple(bounds)
        self._labels = labels
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def add(self, value: float, labels: Labels = ()) -> None:
        """Count one value."""
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * (len(self.bounds) + 1)
            self._sums[labels] = 0.0
        counts[bisect_left(self.bounds, value)] += 1
        self._sums[labels] += value

    def counts(self, labels: Labels = ()) -> list[int]:
        """Return how many values each bound holds, and beyond the last one."""
        return list(self._counts.get(labels, [0] * (len(self.bounds) + 1)))

    def total(self, labels: Labels) -> tuple[int, float]:
        """Return how many values there were, and their sum."""
        return sum(self.counts(labels)), self._sums.get(labels, 0.0)

    def lines(self) -> Iterator[str]:
        """Yield the lines of the text format."""
        yield f"# HELP {self.name} {self._about}"
        yield f"# TYPE {self.name} histogram"
        names = (*self._labels, "le")
        for labels, counts in list(self._counts.items()):
            running = 0
            for bound, count in zip((*self.bounds, "+Inf"), counts, strict=True):
                running += count
                yield f"{self.name}_bucket{_labelled(names, (*labels, str(bound)))} {running}"
            yield f"{self.name}_sum{_labelled(self._labels, labels)} {self._sums[labels]:.9g}"
            yield f"{self.name}_count{_labelled(self._labels, labels)} {running}"


class Metrics:
    """Every metric of the scorer."""

    def __init__(self) -> None:
        self.requests = Counter("tollgate_requests_total", "Requests by path and status.", ("path", "status"))
        self.refusals = Counter("tollgate_refusals_total", "Transactions refused.", ("code", "field"))
        self.decisions = Counter(
            "tollgate_decisions_total", "Decisions.", ("model_version", "policy_version", "outcome", "degraded")
        )
        self.tiers = Counter("tollgate_tiers_total", "Decisions by the tier that scored them.",
                             ("model_version", "tier"))  # fmt: skip
        self.overrides = Counter("tollgate_overrides_total", "Outcomes changed after the policy.",
                                 ("model_version", "override"))  # fmt: skip
        self.lists_loaded = Counter("tollgate_lists_loaded_total", "Lists put in force.")
        self.lists_refused = Counter("tollgate_lists_refused_total", "Lists that could not be read.")
        self.missing = Counter("tollgate_missing_views_total", "Feature views that could not be read.",
                               ("model_version", "view"))  # fmt: skip
        self.stale = Counter("tollgate_stale_views_total", "Feature views older than allowed.",
                             ("model_version", "view"))  # fmt: skip
        self.latency = Histogram(
            "tollgate_latency_seconds",
            "Time to a decision, by stage.",
            LATENCY_BOUNDS,
            ("model_version", "stage"),
        )
        self.scores = Histogram("tollgate_score", "Calibrated scores.", SCORE_BOUNDS, ("model_version",))
        self.shadow_scores = Histogram("tollgate_shadow_score", "Scores of a challenger that decides nothing.",
                                       SCORE_BOUNDS, ("model_version",))  # fmt: skip
        self.shadow_decisions = Counter(
            "tollgate_shadow_decisions_total",
            "What the champion decided, and what the challenger would have.",
            ("model_version", "champion", "challenger"),
        )
        self.shadow_lost = Counter("tollgate_shadow_lost_total", "Decisions that the shadow did not score or write.")
        self.store_timeouts = Counter("tollgate_store_timeouts_total", "Reads not answered in time.")
        self.store_refusals = Counter("tollgate_store_refusals_total", "Reads not tried because the breaker was open.")
        self.store_losses = Counter("tollgate_store_losses_total", "Times the online store was given up.")
        self.store_probes = Counter("tollgate_store_probes_total", "Probes of a store given up.", ("result",))
        self.store_redirects = Counter(
            "tollgate_store_redirects_total", "Reads that followed a key to another node.", ("kind",)
        )
        self.store_repeats = Counter("tollgate_store_repeats_total", "Requests repeated because the store was busy.")
        self.decisions_lost = Counter("tollgate_decisions_lost_total", "Decisions missing from the decision log.")
        self.decisions_logged = Counter("tollgate_decisions_logged_total", "Decisions written to the decision log.")
        self.decisions_delivered = Counter("tollgate_decisions_delivered_total", "Decisions taken by Firehose.")
        self.decisions_undelivered = Counter(
            "tollgate_decisions_undelivered_total", "Decisions that Firehose never got."
        )
        self.decisions_redelivered = Counter(
            "tollgate_decisions_redelivered_total", "Decisions that Firehose has to be sent again."
        )
        self.write_through = Counter("tollgate_write_through_total", "States written ahead of the stream.", ("result",))
        self.bundles_loaded = Counter("tollgate_bundles_loaded_total", "Bundles put to service.",
                                      ("role", "model_version"))  # fmt: skip
        self.bundles_refused = Counter("tollgate_bundles_refused_total", "Bundles refused at reload.", ("role",))
        self.clients_dropped = Counter("tollgate_clients_dropped_total", "Connections too slow in sending a request.")
        self.connections_refused = Counter("tollgate_connections_refused_total", "Connections beyond the most taken.")
        self.requests_unreadable = Counter("tollgate_requests_unreadable_total", "Requests that are no HTTP.")
        self.requests_shed = Counter("tollgate_requests_shed_total", "Requests turned away after waiting too long.")
        self.reads_skipped = Counter("tollgate_reads_skipped_total", "Reads not tried, or given up, for want of time.")
        self.over_budget = Counter("tollgate_over_budget_total", "Requests answered after their budget.")
        self.gauges: list[Gauge] = []

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        metrics = [m for m in vars(self).values() if isinstance(m, Counter | Histogram)] + self.gauges
        return "\n".join(line for metric in metrics for line in metric.lines()).encode() + b"\n"
