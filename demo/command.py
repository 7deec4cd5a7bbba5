"""The demo's command: what a person can choose, and what is shown at the end."""

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from demo.errors import DemoStopped
from demo.figures import Found, json_text, write_json, write_summary
from demo.history import SIZES
from demo.places import DEFAULT_FOLDER, ROOT, Places, alone, make_places
from demo.screen import Screen
from demo.story import Options, play_story

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
HANDBOOK = Path("handbook") / "transactions.parquet"


@app.command()
def demo(
    data: Annotated[str, typer.Option(help="simulated, or handbook: the public simulated benchmark.")] = "simulated",
    size: Annotated[str, typer.Option(help=f"Size of the simulated world: {', '.join(SIZES)}.")] = "normal",
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated world and of every fit.")] = 7,
    replay_seconds: Annotated[float, typer.Option(min=2, max=3600, help="Seconds the live hour is played in.")] = 25,
    out: Annotated[
        Path, typer.Option(help="Folder of everything it makes; an earlier demo's is replaced.")
    ] = DEFAULT_FOLDER,
    keep: Annotated[bool, typer.Option("--keep", help="Leave Valkey and the scorer running until Ctrl-C.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here too; - writes them to standard output.")
    ] = None,
) -> None:
    """Run the whole loop with real processes and end with figures and a report."""
    if data not in ("simulated", "handbook"):
        raise DemoStopped(f"--data {data!r} is neither 'simulated' nor 'handbook'")
    if size not in SIZES:
        raise DemoStopped(f"--size {size!r} is none of {', '.join(SIZES)}")
    started = time.perf_counter()
    screen = Screen()
    source = Path(os.environ.get("TOLLGATE_DATA", ROOT.parent / "shared" / "data")) / HANDBOOK
    with ExitStack() as stack:
        stack.enter_context(alone(out.resolve()))
        places = make_places(out.resolve())
        options = Options(data, size, seed, source, replay_seconds)
        found, curl = play_story(stack, screen, places, options, started=started)
        show(found, screen, places, json_file)
        if keep:
            port = os.environ["TOLLGATE_REDIS_PORT"]
            screen.say(
                f"Valkey (export TOLLGATE_REDIS_PORT={port}) and the scorer go on until Ctrl-C; ask it with\n{curl}"
            )
            signal.pause()


def show(found: Found, screen: Screen, places: Places, json_file: Path | None) -> None:
    """Write summary and report; print what a person reads, or the figures alone where they are asked for."""
    from demo.report import result_rows, write_report

    summary = write_summary(found, places.summary)
    write_report(found, summary, places.report)
    if str(json_file) == "-":
        typer.echo(json_text(summary), nl=False)
        return
    if json_file is not None:
        write_json(summary, json_file)
    screen.rows("Tollgate: the whole loop on this machine", result_rows(found, summary))
    screen.rows("", [("report", str(_shown(places.report))), ("figures", str(_shown(places.summary)))])


def _shown(path: Path) -> Path:
    """Return a path as short as it can be shown."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
