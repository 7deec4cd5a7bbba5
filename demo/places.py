"""Where the demo keeps what it makes: one folder, removed and made anew by every run."""

import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from demo.errors import DemoStopped

ROOT = Path(__file__).resolve().parent.parent
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
            shutil.rmtree(folder)
        for name in ("logs", "decisions", "stream", "models"):
            (folder / name).mkdir(parents=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise DemoStopped(f"cannot write to {folder}: {error.strerror or error}") from None
    if free < LEAST_FREE_BYTES:
        raise DemoStopped(f"{folder} has {free / 1e9:.1f} GB free; the demo needs {LEAST_FREE_BYTES / 1e9:.1f} GB")
    return Places(folder)


def free_port() -> int:
    """Return a port on loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
