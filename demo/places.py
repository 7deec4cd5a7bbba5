"""Where the demo keeps what it makes: one folder, removed and made anew by every run."""

import fcntl
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.errors import DemoStopped

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_FOLDER = ROOT / "build" / "demo"
LEAST_FREE_BYTES = 1_500_000_000


@dataclass(frozen=True)
class Places:
    """The demo's folder and what lies in it."""

    folder: Path

    @property
    def lake(self) -> Path:
        """Transactions, labels, truth and profiles."""
        return self.folder / "lake"

    @property
    def registry(self) -> Path:
        """Feast's registry, a build artifact."""
        return self.folder / "registry.db"

    @property
    def models(self) -> Path:
        """The model registry."""
        return self.folder / "models"

    @property
    def decisions(self) -> Path:
        """The decision log."""
        return self.folder / "decisions"

    @property
    def stream(self) -> Path:
        """The stream worker's checkpoints, metrics and log of what it applied."""
        return self.folder / "stream"

    @property
    def logs(self) -> Path:
        """Output of the processes."""
        return self.folder / "logs"

    @property
    def report(self) -> Path:
        """The report, one self-contained page."""
        return self.folder / "report.html"

    @property
    def summary(self) -> Path:
        """The figures, for machines."""
        return self.folder / "summary.json"


def make_places(folder: Path) -> Places:
    """Return an empty folder for one run.

    Raises
    ------
    DemoStopped
        It cannot be made, or the disk is too full to begin.
    """
    try:
        if folder.exists():
            _refuse_foreign(folder)
            shutil.rmtree(folder)
        for name in ("logs", "decisions", "stream", "models"):
            (folder / name).mkdir(parents=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise DemoStopped(f"cannot write to {folder}: {error.strerror or error}") from None
    if free < LEAST_FREE_BYTES:
        raise DemoStopped(f"{folder} has {free / 1e9:.1f} GB free; the demo needs {LEAST_FREE_BYTES / 1e9:.1f} GB")
    return Places(folder)


def _refuse_foreign(folder: Path) -> None:
    """Raise unless a folder is empty or an earlier demo's: nothing else is ever removed."""
    names = {item.name for item in folder.iterdir()}
    if names and not {"logs", "models"} <= names:
        raise DemoStopped(f"{folder} holds something else than a demo; choose another --out")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the demo's lock on a folder while the block runs.

    Raises
    ------
    DemoStopped
        Another demo runs there.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoStopped(f"another demo runs in {folder}; wait for it, or choose another --out") from None
        yield


def free_port() -> int:
    """Return a port on loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
