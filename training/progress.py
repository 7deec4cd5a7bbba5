"""What a person sees while a long step runs: one bar with a rate, on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from training.transaction_log import Progress


class _Rate(TextColumn):
    """Items per second, once there is something to divide."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="cyan")


@contextmanager
def progress_bars(*names: str) -> Iterator[tuple[Progress, ...]]:
    """Show bars while the block runs and give the functions that move them: called with items done and items in all."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield tuple(_mover(bars, bars.add_task(name, total=None)) for name in names)


@contextmanager
def progress_bar(name: str) -> Iterator[Progress]:
    """Show one bar, see :func:`progress_bars`."""
    with progress_bars(name) as (move,):
        yield move


def _mover(bars: Bars, task: TaskID) -> Progress:
    return lambda done, total: bars.update(task, completed=done, total=total)
