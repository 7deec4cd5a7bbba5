"""The picture of a spike certificate: latency percentiles and load through every phase."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from bench.spike_load import Sent
from bench.spike_phases import PLOT_BUCKET_S, Phase


def plot(sent: Sent, phases: Sequence[Phase], begins: Sequence[float], deadline_ms: float, path: Path) -> None:
    """Write the picture as PNG."""
    end = begins[-1] + phases[-1].seconds
    edges = np.arange(0.0, end + PLOT_BUCKET_S, PLOT_BUCKET_S)
    bucket = np.digitize(sent.due, edges) - 1
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for share, colour in ((0.5, "tab:green"), (0.95, "tab:blue"), (0.99, "tab:red")):
        values = [_quantile(sent.latency[bucket == place], share) for place in range(len(edges) - 1)]
        above.plot(edges[:-1], values, color=colour, label=f"p{100 * share:g}", linewidth=1.4)
    above.axhline(deadline_ms, color="black", linestyle="--", linewidth=1, label=f"deadline {deadline_ms:g} ms")
    above.set_yscale("log")
    above.set_ylabel("latency from the due time, ms")
    counts = np.bincount(bucket, minlength=len(edges) - 1)[: len(edges) - 1] / PLOT_BUCKET_S
    whole = np.bincount(bucket[~sent.degraded], minlength=len(edges) - 1)[: len(edges) - 1] / PLOT_BUCKET_S
    below.fill_between(edges[:-1], counts, step="post", color="tab:orange", label="decided without the store")
    below.fill_between(edges[:-1], whole, step="post", color="tab:green", label="decided with all features")
    below.set_ylabel("requests per second")
    below.set_xlabel("seconds")
    for number, (phase, begin) in enumerate(zip(phases, begins, strict=True)):
        for axes in (above, below):
            axes.axvspan(begin, begin + phase.seconds, color="0.5" if number % 2 else "1.0", alpha=0.12, linewidth=0)
        above.text(
            begin + phase.seconds / 2,
            0.98,
            phase.name.replace(", ", ",\n").replace(" (", "\n("),
            transform=above.get_xaxis_transform(),
            ha="center",
            va="top",
            fontsize=7.5,
            rotation=90,
        )
    above.set_ylim(top=1e4)
    above.legend(loc="center right", fontsize=8)
    below.legend(loc="upper right", fontsize=8)
    above.set_xlim(0.0, end)
    figure.suptitle("Through the spike: one scorer process")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _quantile(latency: "np.ndarray[tuple[int], np.dtype[np.float64]]", share: float) -> float:
    known = latency[~np.isnan(latency)]
    return float(np.quantile(known, share)) * 1e3 if len(known) else float("nan")
