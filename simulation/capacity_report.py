"""What a capacity study looks like: a table, a plot, JSON."""

import math
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fraud.scaling import ScalingPlan
from simulation.capacity import Minute, Run, target_rate
from simulation.capacity_study import Study
from simulation.endpoint import Platform
from simulation.scale import Sizing

INK = "#1f2933"
COLOURS = ("#7aa6c2", "#2f6690", "#16324f", "#c8553d")

FORMATS = (".png", ".svg", ".pdf")
"""Suffixes of a picture."""


def assumptions(study: Study, plan: ScalingPlan) -> list[str]:
    """Return the sentences a reader has to believe to believe the figures."""
    platform, service = study.run.platform, study.service
    saturation, late = platform.workers / service.mean, platform.start_delay_p95
    endpoint = "refuses" if platform.one_update_at_a_time else "accepts"
    return [
        "Arrivals are Poisson at the trace's rate.",
        f"Service times: {service.source}.",
        f"An instance of {platform.workers} worker(s) saturates at {saturation:,.0f} requests/s.",
        f"The platform adds {platform.overhead_ms:g} ms to every request (only an account can show it).",
        f"A new instance takes requests after {platform.start_delay_s:g} s, one in twenty {late:g} times that.",
        f"An instance is paid from when it is asked for; an hour costs ${platform.price_per_hour:g}.",
        f"Alarms see a metric {platform.publish_periods:g} period(s) after its period ended.",
        f"An endpoint whose size is changing {endpoint} another change.",
        "Requests go to the instance with the fewest outstanding; no request fails, none is retried.",
        f"All three fleets aim at {target_rate(plan):g} requests/s and instance.",
    ]


def render(study: Study, plan: ScalingPlan) -> RenderableType:
    """Return the study as tables and sentences for a terminal."""
    lines = [Text(f"- {sentence}", style="dim") for sentence in assumptions(study, plan)]
    tables = [_hours_table(study), _fleet_table(study), _circumstances_table(study)]
    if study.sensitivity:
        tables.append(_sensitivity_table(study))
    return Group(*tables, Text("Assumed:"), *lines)


def _local(moment: float, zone: str) -> str:
    return f"{datetime.fromtimestamp(moment, ZoneInfo(zone)):%a %d %H:%M}"


def _table(first: str, *figures: str) -> Table:
    """Return a table of a name and figures that 80 columns hold."""
    table = Table(first, box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    for header in figures:
        table.add_column(header, justify="right", min_width=max(len(word) for word in header.split()))
    return table


def _hours_table(study: Study) -> Table:
    table = _table("from (UTC)", "requests/s", "p50 ms", "p95 ms", "p99 ms", "late %", "instances", "least")
    for hours in _by_hours(study.run.minutes):
        worst = max(hours, key=lambda minute: -1.0 if math.isnan(minute.p95) else minute.p95)
        requests = sum(minute.requests for minute in hours)
        late = sum(minute.late * minute.requests for minute in hours) / max(requests, 1)
        fleet = [minute.open for minute in hours]
        table.add_row(
            _local(hours[0].start, "UTC"),
            f"{requests / len(hours) / 60:,.0f}",
            f"{worst.p50:,.1f}",
            f"{worst.p95:,.1f}",
            f"{worst.p99:,.1f}",
            f"{100 * late:.2f}",
            f"{min(fleet)}-{max(fleet)}" if min(fleet) < max(fleet) else str(fleet[0]),
            str(max(minute.minimum for minute in hours)),
        )
    table.caption = "Percentiles are those of the worst minute."
    return table


def _by_hours(minutes: tuple[Minute, ...]) -> list[tuple[Minute, ...]]:
    step = 60 * math.ceil(len(minutes) / 60 / 24)
    return [minutes[first : first + step] for first in range(0, len(minutes), step)]


def _fleet_table(study: Study) -> Table:
    price, base = study.run.platform.price_per_hour, study.baselines
    table = _table("fleet", "instance-hours", "cost $", "against the peak's")
    rows = (
        (f"provisioned for the peak: {base.peak_fleet} always", base.peak_hours),
        ("autoscaled", study.run.instance_hours),
        ("perfect foresight", base.foresight_hours),
    )
    for name, hours in rows:
        table.add_row(name, f"{hours:,.1f}", f"{hours * price:,.2f}", f"{100 * (hours / base.peak_hours - 1):+.0f} %")
    return table


def _circumstances_table(study: Study) -> Table:
    deadline = study.run.platform.deadline_ms
    table = _table(
        "circumstance", "worst p95 ms", "worst p99 ms", f"minutes p95 > {deadline:g} ms", "late %", "most instances"
    )
    for name, run in [("the trace", study.run), *((other.name, other.run) for other in study.circumstances)]:
        worst_p99 = max(minute.p99 for minute in run.minutes if minute.requests)
        table.add_row(
            name,
            f"{run.worst.p95:,.1f}",
            f"{worst_p99:,.1f}",
            str(run.minutes_over),
            f"{100 * run.late_share:.3f}",
            str(run.most_open),
        )
    table.caption = "Circumstances are simulated for the busiest hours only."
    return table


def _sensitivity_table(study: Study) -> Table:
    delays = sorted({cell.start_delay_s for cell in study.sensitivity})
    rates = sorted({cell.rate for cell in study.sensitivity})
    cells = {(cell.rate, cell.start_delay_s): cell.run for cell in study.sensitivity}
    table = _table("an instance saturates at", *(f"start delay {delay:g} s" for delay in delays))
    for rate in rates:
        table.add_row(f"{rate:,.0f}/s", *(_worst(cells[rate, delay]) for delay in delays))
    table.caption = "Worst minute's p95 in ms around the steepest rise, and minutes over the deadline if there are any."
    return table


def _worst(run: Run) -> str:
    return f"{run.worst.p95:,.1f}" + (f" ({run.minutes_over} min over)" if run.minutes_over else "")


def render_sizing(sizing: Sizing, platform: Platform) -> RenderableType:
    """Return a sizing as a table with its assumptions."""
    table = Table("component", "needed", "of", "$ a month", "gives way at, per s", "limit")
    for part in sizing.components:
        cost = f"{part.monthly_cost:,.0f}" if part.monthly_cost else ""
        table.add_row(part.name, f"{part.needed:,}", part.unit, cost, f"{part.gives_way_at:,.0f}", part.limit)
    table.add_section()
    table.add_row("total", "", "", f"{sizing.monthly_cost:,.0f}", "", f"first to give way: {sizing.bottleneck.name}")
    known = {**sizing.derived, **asdict(sizing.assumptions), "instance price per hour": platform.price_per_hour}
    lines = [Text(f"- {name.replace('_', ' ')}: {value:,.10g}", style="dim") for name, value in known.items()]
    title = Text(f"{sizing.rate:,.0f} transactions/s at the peak, {sizing.mean_rate:,.0f} on average")
    return Group(title, table, Text("Derived and assumed (limits and list prices as remembered; check them):"), *lines)


def as_json(study: Study, plan: ScalingPlan) -> dict[str, object]:
    """Return the study as JSON-ready values; a minute without requests has null percentiles."""
    base = study.baselines
    return {
        "assumptions": assumptions(study, plan),
        "platform": asdict(study.run.platform),
        **_run_json(study.run),
        "saved_against_peak": round(study.saved, 4),
        "peak_fleet": base.peak_fleet,
        "peak_hours": round(base.peak_hours, 2),
        "foresight_hours": round(base.foresight_hours, 2),
        "circumstances": [{"name": other.name, **_run_json(other.run)} for other in study.circumstances],
        "sensitivity": [
            {"instance_rate": cell.rate, "start_delay_s": cell.start_delay_s, **_run_json(cell.run)}
            for cell in study.sensitivity
        ],
        "minutes": [_finite(asdict(minute)) for minute in study.run.minutes],
    }


def _run_json(run: Run) -> dict[str, object]:
    return {
        "requests": run.requests,
        "latency_ms": {f"p{100 * share:g}": round(run.latency_ms(share), 3) for share in (0.5, 0.95, 0.99)},
        "worst_p95_ms": round(run.worst.p95, 3),
        "minutes_over": run.minutes_over,
        "late_share": run.late_share,
        "instance_hours": round(run.instance_hours, 3),
        "cost": round(run.instance_hours * run.platform.price_per_hour, 2),
        "most_open": run.most_open,
    }


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else round(value, 5) for name, value in values.items()}


def plot(study: Study, plan: ScalingPlan, path: Path) -> None:
    """Draw traffic, fleet and latency over local time into ``path`` (its suffix chooses the format)."""
    from matplotlib.dates import ConciseDateFormatter
    from matplotlib.figure import Figure

    zone = ZoneInfo(plan.timezone)
    minutes = [minute for minute in study.run.minutes if minute.requests]
    local = [datetime.fromtimestamp(minute.start, zone).replace(tzinfo=None) for minute in minutes]
    times = np.array(local, "datetime64[s]")
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    traffic, fleet, latency = figure.subplots(3, 1, sharex=True, height_ratios=(2, 3, 3))
    traffic.fill_between(times, [minute.requests / 60 for minute in minutes], color=COLOURS[0], linewidth=0)
    traffic.set_ylabel("requests/s")
    fleet.fill_between(times, [m.size for m in minutes], color=COLOURS[0], step="post", alpha=0.5, label="asked for")
    fleet.step(times, [m.open for m in minutes], color=COLOURS[1], where="post", label="open")
    fleet.step(times, [m.minimum for m in minutes], color=INK, where="post", linestyle=":", label="scheduled minimum")
    fleet.axhline(study.baselines.peak_fleet, color=COLOURS[3], linewidth=1, label="provisioned for the peak")
    fleet.set_ylabel("instances")
    fleet.legend(loc="upper left", frameon=False, ncols=2)
    for name, colour in (("p50", COLOURS[0]), ("p95", COLOURS[1]), ("p99", COLOURS[2])):
        latency.plot(times, [getattr(minute, name) for minute in minutes], color=colour, linewidth=1.2, label=name)
    latency.axhline(study.run.platform.deadline_ms, color=COLOURS[3], linewidth=1, label="deadline")
    latency.set_yscale("log")
    latency.set_ylabel("latency, ms, by minute")
    latency.legend(loc="center left", frameon=False, ncols=4)
    for axes in (traffic, fleet, latency):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=None if axes is latency else 0)
    dates = ConciseDateFormatter(latency.xaxis.get_major_locator())  # type: ignore[no-untyped-call]  # has no types
    latency.xaxis.set_major_formatter(dates)
    latency.set_xlabel(plan.timezone)
    figure.suptitle(f"{100 * study.saved:.0f} % fewer instance-hours than provisioned for the peak", color=INK)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
