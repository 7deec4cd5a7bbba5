"""The maturity curve as a picture."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from training.errors import UnwritableOutput
from training.maturity import MaturityCurve
from training.plots import OURS, style


def draw_maturity(path: Path, curve: MaturityCurve) -> None:
    """Write the curve with its bounds as a PNG.

    Raises
    ------
    UnwritableOutput
        The file cannot be written.
    """
    figure = Figure(figsize=(8, 4.6), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    age = np.arange(1, len(curve.arrived) + 1)
    axes.fill_between(age, curve.low, curve.high, step="post", color=OURS, alpha=0.2, label="95% over resampled days")
    axes.step(age, curve.arrived, where="post", color=OURS, linewidth=2.2, label=f"from {curve.labels:,} fraud labels")
    style(
        axes, "How old before a label can be missed", "age of the transaction, days", "fraud labels that have arrived"
    )
    axes.set(ylim=(0, 1.02), xlim=(0, len(age)))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.legend(frameon=False, loc="lower right")
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise UnwritableOutput(f"{path} cannot be written: {error}") from error
