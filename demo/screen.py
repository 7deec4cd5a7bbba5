"""What a person sees while the demo runs: one line a step, a bar with a rate on the long ones."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

Advance = Callable[[int, int], None]


class RateColumn(TextColumn):
    """Items per second, once there is something to divide."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        """Return the rate of one task."""
        return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="cyan")


class Screen:
    """Prints steps to standard error, so that standard output stays for the result."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._progress: Progress | None = None

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator["Step"]:
        """Show a step while its block runs, and its time and outcome afterwards."""
        started = time.perf_counter()
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            RateColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        ) as progress:
            step = Step(progress, name)
            yield step
        seconds = time.perf_counter() - started
        note = f" [dim]{step.note}[/]" if step.note else ""
        self.console.print(f"[green]✓[/] {name}{note} [cyan]{seconds:.1f} s[/]")


class Step:
    """A step being shown."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._name = name
        self._task = progress.add_task(name, total=None)
        self.note = ""

    def advance(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` items are done."""
        self._progress.update(self._task, completed=done, total=total)

    def say(self, what: str) -> None:
        """Show what the step is at."""
        self._progress.update(self._task, description=f"{self._name}: {what}")
