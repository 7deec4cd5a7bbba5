"""What a person sees while the demo runs: one line a step, a bar with a rate on the long ones."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

Advance = Callable[[int, int], None]

NAME_WIDTH: Final = 30
"""Columns of a step's name; with eight for its seconds a note of 38 still fits a terminal of 80."""


class CountColumn(TextColumn):
    """Items done and items there are, once that is known."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        """Return the count of one task; nothing while there is no total."""
        return Text("" if task.total is None else f"{task.completed:,.0f}/{task.total:,.0f}")


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
        self.result = Console(highlight=False)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator["Step"]:
        """Show a step while its block runs, and its time and outcome afterwards."""
        started = time.perf_counter()
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            CountColumn(),
            RateColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        ) as progress:
            step = Step(progress, name)
            yield step
        seconds = time.perf_counter() - started
        self.console.print(
            f"[green]✓[/] {name:<{NAME_WIDTH}}[cyan]{seconds:6.1f} s[/]  [dim]{escape(step.note)}[/]", soft_wrap=True
        )

    def rows(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Print a result: a title and a line for each name and value, on standard output, nothing cut or wrapped."""
        self.result.print(f"\n[bold]{title}[/]\n" if title else "", soft_wrap=True)
        for name, value in rows:
            self.result.print(f"[bold]{name:<{NAME_WIDTH}}[/]  {escape(value)}", soft_wrap=True)

    def say(self, text: str) -> None:
        """Print a text as it is, on standard error."""
        self.console.print(text, soft_wrap=True, markup=False)


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
