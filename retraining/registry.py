"""The local model registry: every version kept, one of them champion, every verdict written down.

``versions/<version>/`` holds a bundle; ``champion`` is a symbolic link that one rename moves, so a reader sees the old
champion or the new one and never half of either; ``history.jsonl`` gets one line per event. A scorer whose model
directory is the ``champion`` link picks a promotion up by itself.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fraud.bundle import ModelBundle, open_bundle
from retraining.errors import NoSuchVersion
from retraining.gate import Verdict
from stores.bundle_files import read_bundle, write_bundle


class Registry:
    """A registry in a directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def champion_link(self) -> Path:
        """Where the champion's bundle is found, now and after the next promotion."""
        return self.folder / "champion"

    def champion(self) -> ModelBundle | None:
        """Return the champion, verified; null when none was ever promoted.

        Raises
        ------
        CorruptBundle
            Its files were altered.
        """
        if not self.champion_link.exists():
            return None
        return open_bundle(read_bundle(self.champion_link))

    def add(self, files: Mapping[str, bytes]) -> ModelBundle:
        """Keep a version, promoted or not, and return it verified; the same files again change nothing."""
        bundle = open_bundle(files)
        place = self.folder / "versions" / bundle.version
        if not place.exists():
            write_bundle(files, place)
        return bundle

    def promote(self, version: str, verdict: Verdict, *, as_of_ms: int) -> None:
        """Make a kept version champion.

        Raises
        ------
        NoSuchVersion
            It was never added.
        """
        place = self.folder / "versions" / version
        if not place.is_dir():
            raise NoSuchVersion(f"{version} is not in {self.folder / 'versions'}")
        staged = self.folder / f".champion-{os.getpid()}"
        staged.unlink(missing_ok=True)
        staged.symlink_to(Path("versions") / version, target_is_directory=True)
        staged.replace(self.champion_link)
        self._note("promoted", version, verdict, as_of_ms)

    def refuse(self, version: str, verdict: Verdict, *, as_of_ms: int) -> None:
        """Write down that a kept version may not serve; the champion stays."""
        self._note("refused", version, verdict, as_of_ms)

    def history(self) -> list[dict[str, Any]]:
        """Return every event, oldest first."""
        path = self.folder / "history.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def _note(self, event: str, version: str, verdict: Verdict, as_of_ms: int) -> None:
        line = {"event": event, "version": version, "as_of_ms": as_of_ms, "checks": asdict(verdict)["checks"]}
        with (self.folder / "history.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
