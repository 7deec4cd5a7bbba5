"""``python -m simulation capacity`` and ``trace``: traffic against the endpoint under its scaling plan."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fraud.scaling import INSTANCE_RATE, PLAN, ScalingPlan
from simulation.capacity_report import FORMATS, as_json, plot, render, render_sizing
from simulation.capacity_study import (
    SATURATIONS,
    Study,
    Variations,
    expected_requests,
    study,
    with_payday_minimum,
)
from simulation.command_line import JsonFile, OneSentence, check_writable, wants_only_json, write_figures
from simulation.endpoint import Platform
from simulation.scale import as_json as sizing_as_json
from simulation.scale import size
from simulation.service import SHIPPED, ServiceTimes, read_service
from simulation.traffic import NORMAL_PEAK, PAYDAY, Kind, Trace, make_trace, read_trace, write_trace

_PAYDAY = datetime(PAYDAY.year, PAYDAY.month, PAYDAY.day, tzinfo=UTC)


def register(app: typer.Typer) -> None:
    """Add the commands to the room's command line."""
    app.command("trace")(trace_command)
    app.command("capacity")(capacity_command)


def trace_command(
    *,
    out: Annotated[Path, typer.Option(help="CSV file to write.")],
    kind: Annotated[Kind, typer.Option(help="The days up to a payday with its surge, or ordinary ones.")] = "payday",
    payday: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="Last day.")] = _PAYDAY,
    days: Annotated[int, typer.Option(help="Days of the trace.")] = 2,
    normal_peak: Annotated[float, typer.Option(help="Transactions/s in an ordinary day's busiest hour.")] = NORMAL_PEAK,
    surge: Annotated[float, typer.Option(help="Factor of the surge at 18:00 on the payday.")] = 2.5,
    ramp_minutes: Annotated[int, typer.Option(help="Minutes in which the surge builds up.")] = 3,
) -> None:
    """Write a trace of traffic, from the seasons of the simulated world."""
    with OneSentence():
        trace = make_trace(
            kind, payday=payday.date(), days=days, normal_peak=normal_peak, surge=surge, ramp_minutes=ramp_minutes
        )
        write_trace(trace, out)
        million = trace.transactions(trace.start, trace.end) / 1e6
        typer.echo(
            f"{out}: {len(trace.rates)} minutes, {million:.1f} million transactions, peak {trace.rates.max():,.0f}/s"
        )


def capacity_command(  # noqa: PLR0913  # one parameter per option
    *,
    trace: Annotated[Path | None, typer.Option(help="CSV of rates, as the trace command writes it.")] = None,
    scale: Annotated[float | None, typer.Option(help="Instead: size the system for this many transactions/s.")] = None,
    service: Annotated[Path | None, typer.Option(help="JSON of service times, used as they are.")] = None,
    instance_rate: Annotated[
        float | None,
        typer.Option(
            help="Scale service times so that an instance saturates at this rate. Without --service: the plan's."
        ),
    ] = None,
    start_delay: Annotated[float, typer.Option(help="Median seconds until a new instance takes requests.")] = 240.0,
    overhead_ms: Annotated[float, typer.Option(help="Milliseconds the platform adds.")] = Platform.overhead_ms,
    deadline_ms: Annotated[float, typer.Option(help="Later than this is late.")] = Platform.deadline_ms,
    price: Annotated[float, typer.Option(help="Dollars per instance-hour.")] = Platform.price_per_hour,
    payday_minimum: Annotated[int | None, typer.Option(help="Another minimum on paydays than the plan's.")] = None,
    sensitivity: Annotated[
        bool, typer.Option(help="Also vary start delay and payday minimum, and lose a zone.")
    ] = True,
    seed: Annotated[int, typer.Option(help="The same seed gives the same figures.")] = 7,
    json_file: JsonFile = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Draw the run here (.png, .svg, .pdf).")] = None,
) -> None:
    """Simulate the scoring endpoint under its scaling plan, request by request."""
    with OneSentence():
        check_writable(json_file)
        platform = Platform(
            start_delay_s=start_delay, overhead_ms=overhead_ms, deadline_ms=deadline_ms, price_per_hour=price
        )
        if scale is not None:
            _refuse_beside_scale(
                {
                    "--trace": trace,
                    "--service": service,
                    "--instance-rate": instance_rate,
                    "--payday-minimum": payday_minimum,
                    "--plot": plot_file,
                }
            )
            sizing = size(scale, platform=platform)
            write_figures(sizing_as_json(sizing), json_file)
            if not wants_only_json(json_file):
                Console().print(render_sizing(sizing, platform))
            return
        if trace is None:
            raise typer.BadParameter("give --trace FILE (write one with `python -m simulation trace`) or --scale RATE")
        if plot_file is not None and plot_file.suffix.lower() not in FORMATS:
            raise typer.BadParameter(f"--plot {plot_file} does not end with {' or '.join(FORMATS)}")
        check_writable(plot_file)
        plan = PLAN if payday_minimum is None else with_payday_minimum(PLAN, payday_minimum)
        times = _service(service, instance_rate, platform)
        variations = _variations(plan, times, platform) if sensitivity else Variations((), (), (), zone_loss=False)
        found = _watched(read_trace(trace), times, platform, plan, seed=seed, variations=variations)
        write_figures(as_json(found, plan), json_file)
        if plot_file is not None:
            plot(found, plan, plot_file)
        if not wants_only_json(json_file):
            Console().print(render(found, plan))


def _refuse_beside_scale(given: Mapping[str, object]) -> None:
    others = [option for option, value in given.items() if value is not None]
    if others:
        raise typer.BadParameter(f"--scale sizes for a rate alone and reads no {' and no '.join(others)}: give one")


def _service(file: Path | None, instance_rate: float | None, platform: Platform) -> ServiceTimes:
    if file is not None and instance_rate is None:
        return read_service(file)
    times = read_service(file or SHIPPED)
    rate = INSTANCE_RATE if instance_rate is None else instance_rate
    if rate <= 0.0:
        raise typer.BadParameter(f"--instance-rate {rate} is not positive")
    return times.saturating_at(rate, workers=platform.workers)


def _variations(plan: ScalingPlan, times: ServiceTimes, platform: Platform) -> Variations:
    """Return smaller and larger minimums, and the rates that are plausible: the study's, others, and the measured."""
    minimums = {
        max(peak.min_instances + more, plan.limits.min_instances) for peak in plan.monthly for more in (-7, -3, 5)
    }
    rates = {platform.workers / found.mean for found in (times, read_service(SHIPPED))}
    return Variations(tuple(sorted(minimums)), tuple(sorted({*SATURATIONS, *(round(rate) for rate in rates)})))


def _watched(
    trace: Trace,
    service: ServiceTimes,
    platform: Platform,
    plan: ScalingPlan,
    *,
    seed: int,
    variations: Variations,
) -> Study:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        # Work goes with requests, not with simulated time.
        total = expected_requests(trace, variations)
        task = progress.add_task("the trace", total=total)
        done: dict[str, float] = {}

        def advance(name: str, requests: float) -> None:
            done[name] = requests
            progress.update(task, completed=sum(done.values()), description=name)

        return study(
            trace,
            service,
            platform=platform,
            plan=plan,
            seed=seed,
            variations=variations,
            progress=advance,
        )
