"""What the proofs found, as tables for people."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

MOST_LINES: Final = 40


def print_proof(console: Console, data: Mapping[str, Any], *, transactions: int, passed: bool) -> None:
    """Print the proof of :func:`monitoring.proving.as_data`."""
    against = data["kernel_against_feast"]
    console.print(
        f"{transactions:,} transactions; {against['mismatches']} of {against['rows']:,} sampled rows differ between "
        "the offline kernels and Feast's get_historical_features",
        soft_wrap=True,
    )
    if "leaks" in data:
        print_leaks(console, data["leaks"])
    if "parity" in data:
        print_parity(console, data["parity"])
    console.print("proven" if passed else "NOT proven")


def print_leaks(console: Console, data: Mapping[str, Any]) -> None:
    """Print the audit of :func:`training.leaks.as_data`."""
    changes = ", ".join(f"{kind} {count:,}" for kind, count in data["changes"].items())
    console.print(f"leaks: {len(data['leaks'])} in {data['probes']:,} audited rows (rows changed: {changes})")
    if data["untested"]:
        console.print(f"  no change of the past moves {', '.join(data['untested'])}", soft_wrap=True)
    if data["leaks"]:
        rows = [(leak["feature"], leak["kind"], f"{leak['rows']:,}", _gap(leak["worst"])) for leak in data["leaks"]]
        _table(console, ("feature", "sees", "rows", "worst"), rows)


def print_parity(console: Console, data: Mapping[str, Any]) -> None:
    """Print the certificate of :func:`monitoring.certificate.as_data`."""
    console.print(
        f"parity: {data['mismatched']:,} of {data['compared']:,} served vectors differ from the log; "
        f"{data['current']:,} had everything earlier, {data['behind']:,} were behind the stream"
    )
    if data["degraded"]:
        console.print(f"  {data['degraded']:,} decisions were made while a view could not be read, and say so")
    if data["unlogged"]:
        console.print(f"  {data['unlogged']:,} decisions are about transactions the log does not hold yet")
    if data["never_applied"]:
        console.print(f"  {data['never_applied']:,} changes of streamed transactions were never applied, or not yet")
    if "stream" in data:
        console.print("  stream: " + ", ".join(f"{name} {count:,}" for name, count in data["stream"].items()))
    if data["mismatches"]:
        rows = [
            (name, f"{found['count']:,}", f"{found['share']:.4%}", _gap(found["worst"]))
            for name, found in sorted(data["mismatches"].items(), key=lambda item: -item[1]["count"])
        ]
        _table(console, ("feature", "mismatches", "share", "worst"), rows)


def print_staleness(console: Console, data: Mapping[str, Any]) -> None:
    """Print the price of lag of :func:`monitoring.staleness.as_data`."""
    console.print(
        f"{data['rows']:,} requests, {data['frauds']:,} frauds. In bursts (two earlier on the card within "
        f"{data['burst_window']}): {data['burst_rows']:,} requests, {data['burst_frauds']:,} frauds. "
        f"Truth: {data['truth']}. Caught at {data['fpr']:.2%} false positives.",
        soft_wrap=True,
    )
    rows = [
        (
            _seconds(line["lag_ms"]),
            "yes" if line["write_through"] else "no",
            f"{line['differs']:.3%}",
            f"{line['burst_differs']:.2%}",
            _share(line["caught"]),
            _share(line["burst_caught"]),
            _share(line["caught_at_kept_threshold"]),
        )
        for line in data["lags"]
    ]
    head = ("lag", "through", "differ", "bursts", "caught", "bursts", "kept cut")
    _table(console, head, rows)


def _table(console: Console, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(*head[:1])
    for name in head[1:]:
        table.add_column(name, justify="right")
    for row in rows[:MOST_LINES]:
        table.add_row(*row)
    console.print(table)
    if len(rows) > MOST_LINES:
        console.print(f"  and {len(rows) - MOST_LINES} more; --json has all")


def _gap(worst: float | None) -> str:
    return "null" if worst is None else f"{worst:.6g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _seconds(lag_ms: int) -> str:
    return f"{lag_ms / 1000:g} s" if lag_ms < 60_000 else f"{lag_ms / 60_000:g} min"
