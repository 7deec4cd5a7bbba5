"""Hot reload: a new bundle is opened, verified and warmed beside the one in service, then put in its place.

A background thread looks at the manifest every second and at once when woken. What does not verify is refused once,
logged and counted, and the old model goes on; a request keeps the model it began with.
"""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from fraud.errors import TollgateError
from serving.logs import Seldom, note, place_of, warn
from serving.metrics import Metrics
from serving.model import Model, prepare_model
from stores.bundle_files import read_manifest
from stores.bundle_signature import read_signed_bundle

POLL_S: Final = 1.0

Role = Literal["champion", "shadow"]


class Reloader:
    """Watches ``directory``, usually a symbolic link that is swapped, and hands new models to ``take``.

    With a ``key`` a bundle that is not signed by it is refused. The ``role`` stands in logs and metrics.
    """

    def __init__(
        self,
        directory: Path,
        *,
        serving: str,
        take: Callable[[Model], None],
        metrics: Metrics,
        key: bytes | None = None,
        role: Role = "champion",
    ) -> None:
        self._directory = directory
        self._key = key
        self._serving = serving
        self._take = take
        self._metrics = metrics
        self._role = role
        self._refused = ""
        self._stop = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)
        self._seldom = Seldom()

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def wake(self) -> None:
        """Look now, also at a bundle refused before."""
        self._refused = ""
        self._wake.set()

    def forget(self) -> None:
        """Take whatever comes next, also what was served before."""
        self._serving = ""

    def close(self) -> None:
        """Stop watching; a bundle being opened is finished and not taken."""
        self._stop = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop:
            self._wake.wait(POLL_S)
            self._wake.clear()
            try:
                self.look()
            except Exception as error:  # noqa: BLE001  # the outermost loop of this thread: it must not end
                self._seldom.warn("reload_failed", error=type(error).__name__, at=place_of(error))

    def look(self) -> None:
        """Take the bundle in the directory if it is another one than is served, and good."""
        manifest = read_manifest(self._directory)
        if manifest is None or self._stop:
            return
        version = hashlib.sha256(manifest).hexdigest()[:16]
        if version in (self._serving, self._refused):
            return
        try:
            model = prepare_model(read_signed_bundle(self._directory, self._key))
        except TollgateError as error:
            self._refused = version
            self._metrics.bundles_refused.add((self._role,))
            warn("bundle_refused", role=self._role, version=version, reason=str(error), still_serving=self._serving)
            return
        if not self._stop:
            self._take(model)
            self._serving = model.bundle.version
            self._refused = ""
            self._metrics.bundles_loaded.add((self._role, self._serving))
            note("bundle_loaded", role=self._role, version=self._serving, features=len(model.bundle.features))
