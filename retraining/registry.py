"""The local model registry: every version kept, one of them champion, every verdict written down.

``versions/<version>/`` holds a bundle; ``champion`` is a symbolic link that one rename moves, so a reader sees the old
champion or the new one and never half of either; ``history.jsonl`` gets one line per event, in one write. A scorer
whose model directory is the ``champion`` link picks a promotion up by itself. Whoever changes anything holds ``.lock``.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from fraud.bundle import ModelBundle, open_bundle
from fraud.errors import CorruptBundle
from retraining.errors import NoSuchVersion, NothingToRollBack, RegistryBusy
from retraining.verdict import Verdict
from stores.bundle_files import read_bundle, write_bundle

SERVED_FROM = ("promoted", "rolled_back")
"""Events that change what is served."""


class ModelRegistry(Protocol):
    """What the weekly loop asks of a registry, wherever it is; :class:`Registry` says what each promises."""

    def locked(self) -> AbstractContextManager[None]:
        """Keep everybody else from changing the registry while the block runs."""

    def champion_version(self) -> str | None:
        """Return the version that is to be served; null for none."""

    def champion(self) -> ModelBundle | None:
        """Return the champion, verified."""

    def version(self, version: str) -> ModelBundle:
        """Return a kept version, verified."""

    def versions(self) -> list[str]:
        """Return every kept version, in the order of their names."""

    def add(self, files: Mapping[str, bytes]) -> ModelBundle:
        """Keep a version; the same files again change nothing."""

    def promote(self, version: str, verdict: Verdict, *, as_of_ms: int) -> None:
        """Let a kept version serve."""

    def refuse(self, version: str, verdict: Verdict, *, as_of_ms: int) -> None:
        """Write down that a version may not serve."""

    def keep_report(self, version: str, files: Mapping[str, bytes]) -> None:
        """Keep the report of a candidate, whatever became of it."""

    def rollback(self, version: str | None = None) -> str:
        """Make an earlier version champion again and return it."""

    def served(self) -> list[str]:
        """Return the champions that led to this one, oldest first."""

    def history(self) -> list[dict[str, Any]]:
        """Return every event, oldest first."""


class Registry:
    """A registry in a directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def champion_link(self) -> Path:
        """Where the champion's bundle is found, now and after the next promotion."""
        return self.folder / "champion"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep everybody else from changing the registry while the block runs; the kernel frees it when we die.

        Raises
        ------
        RegistryBusy
            Somebody else holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise RegistryBusy(
                    f"process {holder} is at work in {self.folder}; nothing was started, try again when it has ended"
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def champion_version(self) -> str | None:
        """Return the version that the champion link names, whether or not it opens; null when there is no link."""
        return self.champion_link.readlink().name if self.champion_link.is_symlink() else None

    def champion(self) -> ModelBundle | None:
        """Return the champion, verified; null when none was ever promoted.

        Raises
        ------
        CorruptBundle
            Its files were altered, or are gone.
        """
        version = self.champion_version()
        return None if version is None else self._open(version)

    def version(self, version: str) -> ModelBundle:
        """Return a kept version, verified.

        Raises
        ------
        NoSuchVersion
            It was never added.
        CorruptBundle
            Its files were altered.
        """
        if "/" in version or not (self.folder / "versions" / version).is_dir():
            kept = ", ".join(self.versions()) or "none"
            raise NoSuchVersion(f"{version!r} is not in {self.folder / 'versions'}; kept are {kept}")
        return self._open(version)

    def versions(self) -> list[str]:
        """Return every kept version, in the order of their names."""
        folder = self.folder / "versions"
        return sorted(place.name for place in folder.glob("[!.]*")) if folder.is_dir() else []

    def add(self, files: Mapping[str, bytes]) -> ModelBundle:
        """Keep a version, promoted or not, and return it as it lies on disk; the same files again change nothing.

        Raises
        ------
        CorruptBundle
            ``files`` are no bundle, or the version is there already and was altered.
        """
        bundle = open_bundle(files)
        write_bundle(files, self.folder / "versions" / bundle.version)
        return self._open(bundle.version)

    def promote(self, version: str, verdict: Verdict, *, as_of_ms: int) -> None:
        """Make a kept version champion; a version that is champion already stays so. Call it under :meth:`locked`.

        Raises
        ------
        NoSuchVersion
            It was never added.
        CorruptBundle
            Its files were altered; the champion stays.
        """
        self.version(version)
        self._serve(version)
        self._note("promoted", version, as_of_ms=as_of_ms, **verdict.facts())

    def refuse(self, version: str, verdict: Verdict, *, as_of_ms: int) -> None:
        """Write down that a version may not serve; the champion stays."""
        self._note("refused", version, as_of_ms=as_of_ms, **verdict.facts())

    def keep_report(self, version: str, files: Mapping[str, bytes]) -> None:
        """Keep the report of a candidate in ``reports/<version>/``; a later iteration's takes its place."""
        place = self.folder / "reports" / version
        place.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            draft = place / f".{name}"
            draft.write_bytes(content)
            draft.replace(place / name)

    def rollback(self, version: str | None = None) -> str:
        """Make an earlier version champion again and return it. Call it under :meth:`locked`.

        Parameters
        ----------
        version
            Any kept version; without it the champion before this one. Going back twice goes back two champions.

        Raises
        ------
        NothingToRollBack
            There is no earlier champion, or ``version`` is served already.
        NoSuchVersion
            ``version`` was never added.
        CorruptBundle
            The earlier version was altered; the champion stays.
        """
        served, now = self.served(), self.champion_version()
        if version is None:
            earlier = [known for known in served if known != now]
            if not earlier:
                raise NothingToRollBack(f"{self.folder} has no champion before {now or 'the first'}")
            version = earlier[-1]
        elif version == now:
            raise NothingToRollBack(f"{version} is the champion already")
        self.version(version)
        self._serve(version)
        self._note("rolled_back", version, from_version=now)
        return version

    def served(self) -> list[str]:
        """Return the champions that led to this one, oldest first; those that were rolled back are not among them."""
        served: list[str] = []
        for event in self.history():
            if event["event"] not in SERVED_FROM:
                continue
            version = event["version"]
            if version in served:
                del served[served.index(version) + 1 :]
            else:
                served.append(version)
        return served

    def history(self) -> list[dict[str, Any]]:
        """Return every event, oldest first; a line that a crash left unfinished is passed over."""
        path = self.folder / "history.jsonl"
        if not path.exists():
            return []
        events = []
        for line in path.read_bytes().splitlines():
            try:
                events.append(json.loads(line))
            except ValueError:
                continue
        return events

    def _open(self, version: str) -> ModelBundle:
        """Return a version as it lies on disk, checked to be the one that its folder names."""
        bundle = open_bundle(read_bundle(self.folder / "versions" / version))
        if bundle.version != version:
            raise CorruptBundle(f"{self.folder / 'versions' / version} holds version {bundle.version}")
        return bundle

    def _serve(self, version: str) -> None:
        staged = self.folder / f".champion-{os.getpid()}"
        staged.unlink(missing_ok=True)
        staged.symlink_to(Path("versions") / version, target_is_directory=True)
        staged.replace(self.champion_link)

    def _note(self, event: str, version: str, **facts: Any) -> None:
        """Append a line in one write, on a line of its own even when a crash cut the last one short."""
        line = json.dumps({"event": event, "version": version, **facts}) + "\n"
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder / "history.jsonl", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(handle).st_size
            torn = size and os.pread(handle, 1, size - 1) != b"\n"
            os.write(handle, (("\n" if torn else "") + line).encode())
            os.fsync(handle)
        finally:
            os.close(handle)
