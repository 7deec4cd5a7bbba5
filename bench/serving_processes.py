"""Server processes of a benchmark: started, awaited, their CPU time read from the kernel's accounts, ended."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import psutil

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Running:
    """A server that listens."""

    port: int
    pid: int

    def cpu_s(self) -> float:
        """Return the CPU seconds of the process and of those it started, all threads, from the scheduler."""
        top = psutil.Process(self.pid)
        return sum(_cpu_s(process.pid) for process in (top, *top.children(recursive=True)))


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds of one process: nanoseconds per thread where the kernel keeps them."""
    total = 0
    for stat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        total += int(stat.read_text().split()[0])
    return total / 1e9


@contextmanager
def running(
    command: Sequence[str], port: int, environment: Mapping[str, str] | None = None, *, log: Path | None = None
) -> Iterator[Running]:
    """Run a server until the block ends; yield when it listens."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TOLLGATE_")}
    full = {**clean, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(environment or {})}
    with (log or Path(os.devnull)).open("ab") as said:
        process = subprocess.Popen(list(command), cwd=ROOT, env=full, stdout=said, stderr=said, start_new_session=True)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not _listens(port):
            assert process.poll() is None, f"{command} ended with {process.returncode}: {_tail(log)}"
            assert time.monotonic() < deadline, f"{command} does not listen: {_tail(log)}"
            time.sleep(0.05)
        yield Running(port, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def running_scorer(
    model: Path, redis_port: int, *, module: str = "serving", log: Path | None = None, **settings: object
) -> Iterator[Running]:
    """Run the real scorer, or ``module`` in its place."""
    port = free_port()
    chosen = {"bind_port": port, "model_dir": model, "redis_port": redis_port, **settings}
    environment = {f"TOLLGATE_{name.upper()}": str(value) for name, value in chosen.items()}
    command = [sys.executable, "-m", module, *(["serve"] if module == "serving" else [])]
    with running(command, port, environment, log=log) as server:
        yield server


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Return whether a server says that it is ready to score."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/ping", timeout=1):
            return True
    except OSError:
        return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _tail(log: Path | None) -> str:
    return log.read_text(errors="replace")[-2000:] if log is not None else ""
