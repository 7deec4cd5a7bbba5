"""Where SageMaker puts things for a job, and how a job says why it failed.

A job's whole world is ``/opt/ml``: inputs are there before it starts, outputs are taken from there when it ends with 0,
and when it does not, the text in one file becomes the reason that the pipeline shows. ``SM_OPT_ML`` moves that world
elsewhere, for a run on one's own machine.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fraud.errors import TollgateError
from training.errors import UnreadableSource

ROOT: Final = "SM_OPT_ML"
REASON_BYTES: Final = 1024
"""SageMaker shows no more of a reason."""

NONE: Final = "none"
"""What a job is given where a key would stand and there is none: SageMaker takes no empty argument."""


@dataclass(frozen=True)
class Container:
    """The folders of one job."""

    root: Path

    def processing(self, name: str) -> Path:
        """Return an input's or output's folder of a processing job."""
        return self.root / "processing" / name

    def channel(self, name: str) -> Path:
        """Return a channel's folder of a training job."""
        return self.root / "input" / "data" / name

    @property
    def model(self) -> Path:
        """Folder that becomes a training job's model archive."""
        return self.root / "model"

    def hyperparameters(self) -> Mapping[str, str]:
        """Return a training job's hyperparameters: always texts.

        Raises
        ------
        UnreadableSource
            SageMaker's file is not there, or is none of its own.
        """
        path = self.root / "input" / "config" / "hyperparameters.json"
        try:
            return {str(name): str(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}
        except (OSError, ValueError, AttributeError) as error:
            raise UnreadableSource(f"{path} holds no hyperparameters: {error}") from None

    def say_why(self, error: TollgateError | OSError) -> str:
        """Leave the reason of a failure where training and processing jobs leave it, and return it."""
        code = error.code if isinstance(error, TollgateError) else "disk"
        reason = f"{error} ({code})"
        folder = self.root / "output"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("failure", "message"):
            (folder / name).write_text(reason.encode()[:REASON_BYTES].decode(errors="ignore"), encoding="utf-8")
        return reason


def this_container(environ: Mapping[str, str] = os.environ) -> Container:
    """Return the folders of the job that this process is."""
    return Container(Path(environ.get(ROOT, "/opt/ml")))
