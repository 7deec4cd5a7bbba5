"""The whole loop from one command: its figures, and that it leaves nothing running."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo.report import WIDTH
from demo.screen import NAME_WIDTH

ROOT = Path(__file__).resolve().parents[2]


def demo(out: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "demo", "--size", "small", "--replay-seconds", "6", "--out", str(out), *arguments]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("TOLLGATE_", "FRAUD_"))}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def processes_of(out: Path) -> list[str]:
    """Command lines of live processes that name the demo's folder, in their arguments or their settings."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command, environ = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(out).encode() in command + environ and command:
            found.append(command.replace(b"\0", b" ").decode())
    return found


@dataclass(frozen=True)
class Ran:
    """A demo's folder, figures, and what it said."""

    out: Path
    summary: dict[str, Any]
    steps: list[str]
    result: list[str]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    out = tmp_path_factory.mktemp("demo") / "run"
    process = demo(out, "--json", str(out.with_name("figures") / "demo.json"))
    result, errors = process.communicate(timeout=1800)
    assert process.returncode == 0, errors[-3000:]
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return Ran(out, summary, errors.splitlines(), result.splitlines())


def test_every_payment_is_answered(ran: Ran) -> None:
    summary = ran.summary
    assert summary["requests"] > 500
    assert summary["errors"] == 0
    assert sum(sum(row.values()) for row in summary["outcomes"].values()) == summary["requests"]


def test_online_equals_offline_for_every_served_vector(ran: Ran) -> None:
    summary = ran.summary
    parity = summary["parity"]  # on a machine that is busy some answers do without the store, and say so
    assert parity["compared"] + parity["degraded"] == summary["requests"]
    assert parity["compared"] > summary["requests"] / 2
    assert summary["parity"]["mismatches"] == 0
    assert summary["parity_at_rest"]["mismatches"] == 0 < summary["parity_at_rest"]["compared"]


def test_gate_refuses_the_model_of_a_broken_stream(ran: Ran) -> None:
    gate = ran.summary["gate"]
    assert gate["refused"] >= 1
    assert any("ranks_no_worse" in reason for reason in gate["reasons"])


def test_scorer_answers_every_request_while_a_champion_is_trained_and_replaced(ran: Ran) -> None:
    swap, steps = ran.summary["swap"], ran.summary["steps"]
    assert swap["errors"] == 0
    assert sum(swap["versions"].values()) == swap["requests"]
    assert swap["requests"] > 5 * steps["Retrain: this week's iteration"]  # fifty a second where nothing else runs
    assert len(swap["versions"]) == (2 if swap["promoted"] else 1)
    assert swap["before"] in swap["versions"]


def test_all_processes_together_stay_below_three_gigabytes(ran: Ran) -> None:
    by_process = ran.summary["peak_rss_mb_by_process"]
    for name in ("demo", "serving", "streaming", "moto.server", "valkey-server"):
        assert any(process.startswith(name) for process in by_process), (name, by_process)
    assert abs(ran.summary["peak_rss_mb"] - sum(by_process.values())) < 5
    assert ran.summary["peak_rss_mb"] <= 3000


def test_figures_are_written_where_asked_for(ran: Ran) -> None:
    assert json.loads((ran.out.with_name("figures") / "demo.json").read_text()) == ran.summary


def rows_of(lines: list[str]) -> list[str]:
    """The names of the result's rows; of a decision only that it is one."""
    rows = [line for line in lines if line[NAME_WIDTH:].startswith("  ") and not line.startswith("✓")]
    names = [line[:NAME_WIDTH].rstrip() for line in rows]
    return ["a decision" if name.split(",")[0] in ("decline", "review") else name for name in names]


def test_readme_shows_what_is_printed(ran: Ran) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = readme.split("## What you will see")[1].split("```")[1].splitlines()[1:]
    steps = [line for line in block if line.startswith("✓")]
    printed = [line for line in ran.steps if line.startswith("✓")]
    assert [line[2 : 2 + NAME_WIDTH].rstrip() for line in steps] == list(ran.summary["steps"])
    assert [line[2 : 2 + NAME_WIDTH].rstrip() for line in printed] == list(ran.summary["steps"])
    optional = {"answered without the store"}  # where the machine is that busy
    assert rows_of(block) == [name for name in rows_of(ran.result) if name not in optional]
    assert max(len(line) for line in block + printed + ran.result if "/" not in line) <= WIDTH


def test_report_is_one_self_contained_page(ran: Ran) -> None:
    page = (ran.out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert 'src="http' not in page
    assert "href=" not in page


def test_nothing_is_left_running(ran: Ran) -> None:
    assert processes_of(ran.out) == []


def test_interrupt_stops_everything_that_was_started(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = demo(out)
    deadline = time.monotonic() + 120
    while len(processes_of(out)) < 2 and time.monotonic() < deadline:  # the demo itself, and what it started
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors[-2000:]
    assert errors.strip().splitlines()[-1].startswith("demo: stopped")
    assert processes_of(out) == []


def test_interrupt_in_the_first_moment_ends_as_orderly(tmp_path: Path) -> None:
    process = demo(tmp_path / "run")
    time.sleep(0.7)  # while it still imports, or soon after
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors[-2000:]
    assert "Traceback" not in errors


def test_interrupt_that_a_callback_swallows_still_ends_the_demo() -> None:
    program = """
import gc, os, signal, weakref
from demo.interrupt import stop_if_asked, stop_in_order
class Dies: pass
stop_in_order()
thing = Dies()
held = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))
del thing
print("went on")
stop_if_asked()
print("not asked")
"""
    told = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.stdout == "went on\n"
    assert told.stderr.rstrip().endswith("KeyboardInterrupt")


def test_second_demo_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = demo(out)
    try:
        deadline = time.monotonic() + 120
        while not (out / "logs").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        second = demo(out)
        _, errors = second.communicate(timeout=120)
        assert second.returncode == 1
        assert "another demo runs in" in errors.strip().splitlines()[-1]
    finally:
        os.kill(first.pid, signal.SIGINT)
        first.communicate(timeout=120)


def test_missing_benchmark_is_said_in_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "demo", "--data", "handbook", "--out", str(tmp_path / "run")]
    environ = os.environ | {"TOLLGATE_DATA": str(tmp_path / "nowhere")}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "transactions.parquet is missing" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
