"""What the commands show: plans, states, rollouts; as tables on a terminal or as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra.changes import Plan
from infra.environment import Environment
from infra.rules import KEPT

_MARKS: Final = {"Add": "[green]+[/]", "Modify": "[yellow]~[/]", "Remove": "[red]-[/]", "Import": "[blue]>[/]"}


def show_plan(console: Console, plan: Plan, name: str) -> None:
    """Print what deploying a stack would do."""
    if plan.waits_for:
        console.print(f"[bold]{name}[/]: waits for {', '.join(plan.waits_for)}; planned once they are deployed")
        return
    if plan.remains:
        console.print(f"[bold]{name}[/]: a creation has failed; deploying removes what it left and begins anew")
    counts = {action: sum(change.action == action for change in plan.changes) for action in _MARKS}
    told = ", ".join(f"{count} {action.lower()}" for action, count in counts.items() if count) or "no changes"
    console.print(f"[bold]{name}[/]: {told}")
    for change in plan.changes:
        parts = [_MARKS.get(change.action, "?"), change.resource, f"[dim]{change.type}[/]"]
        if change.properties:
            parts.append(", ".join(change.properties))
        if change.replaced in ("True", "Conditional"):
            parts.append("[red]replaced[/]" if change.replaced == "True" else "[yellow]perhaps replaced[/]")
        if change.type in KEPT:
            parts.append("[cyan]keeps data[/]")
        console.print("  " + " ".join(parts), highlight=False)
    show_skipped(console, plan)


def show_skipped(console: Console, plan: Plan) -> None:
    """Print what an emulator was not given."""
    kinds = sorted({item.type for item in plan.skipped})
    if kinds:
        console.print(f"  [yellow]left out, the emulator only pretends[/]: {', '.join(kinds)}", highlight=False)


def plan_as_json(plan: Plan, name: str) -> dict[str, Any]:
    """Return a plan as plain data."""
    return {
        "stack": name,
        "waits_for": list(plan.waits_for),
        "remains": plan.remains,
        "changes": [asdict(change) for change in plan.changes],
        "skipped": [asdict(item) for item in plan.skipped],
    }


def show_unready(console: Console, environment: Environment) -> None:
    """Print what of an environment somebody still has to fill in."""
    for missing in environment.unready():
        console.print(f"[yellow]{missing} is still made of zeros[/]: deploy needs its digest")
    if not environment.account.alarm_email:
        console.print("[yellow]account.alarm_email is empty[/]: nobody will be told of an alarm")


def show_advice(console: Console, advice: Sequence[str]) -> None:
    """Print what somebody should know and nothing waits for; commands in it stay on one line, to be copied."""
    for said in advice:
        console.print(f"[yellow]note[/]: {escape(said)}", highlight=False, soft_wrap=True)


def show_rows(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    table = Table(title=title, *columns)  # noqa: B026  # rich takes columns by position and the title by name
    for row in rows:
        table.add_row(*row)
    console.print(table)


def show_json(content: Mapping[str, Any] | Sequence[Any]) -> str:
    """Return one line of JSON."""
    return json.dumps(content, sort_keys=True)
