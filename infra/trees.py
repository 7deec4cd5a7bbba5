"""Builds, without Docker, what an image's Dockerfile builds: the locked packages and our rooms, in a clean environment.

Same interpreter series, same lock files with hashes, same copied rooms; what it cannot show is the base image.
"""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.errors import MissingPrerequisite
from infra.sbom import LOCKS, ROOT

ROOMS: Final = {
    "inference": ("fraud", "stores", "serving"),
    "job": ("fraud", "stores", "streaming", "feature_repo", "training", "monitoring", "retraining"),
    "lambda": ("fraud", "stores", "streaming", "infra"),
}
"""Our own packages in each image, as its Dockerfile copies them."""

_SHOWN: Final = 8


@dataclass(frozen=True)
class Tree:
    """What was built: where it lies, bytes in all, files, and the largest packages with their bytes."""

    path: str
    total: int
    files: int
    largest: tuple[tuple[str, int], ...]


def build(image: str, into: Path, say: Callable[[str], None] = lambda _: None, root: Path = ROOT) -> Tree:
    """Build an image's tree in a new folder: ``venv/`` and ``app/``.

    Raises
    ------
    MissingPrerequisite
        The image is unknown, the folder is there already, or the packages cannot be installed.
    """
    if image not in ROOMS:
        raise MissingPrerequisite(f"there is no image {image!r}; known are {', '.join(sorted(ROOMS))}")
    if into.exists():
        raise MissingPrerequisite(f"{into} is there already; name a new folder")
    say("making the environment")
    venv.create(into / "venv", with_pip=True)
    for lock in LOCKS[image]:
        say(f"installing requirements/{lock}.txt")
        _install(into / "venv", root / "requirements" / f"{lock}.txt")
    for room in ROOMS[image]:
        shutil.copytree(root / room, into / "app" / room, ignore=shutil.ignore_patterns("__pycache__"))
    return _weigh(into)


def python(tree: Path) -> Path:
    """Return the interpreter of a built tree."""
    return tree / "venv" / "bin" / "python"


def environment(tree: Path) -> dict[str, str]:
    """Return the environment in which the image's processes run."""
    kept = {name: os.environ[name] for name in ("LANG", "HOME") if name in os.environ}
    path = f"{tree / 'venv' / 'bin'}:/usr/bin:/bin"
    return {**kept, "PATH": path, "PYTHONPATH": str(tree / "app"), "PYTHONDONTWRITEBYTECODE": "1"}


def _install(folder: Path, lock: Path) -> None:
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--no-compile", "--require-hashes", "--no-deps"]
    command += ["--only-binary", ":all:", "--disable-pip-version-check", "--quiet", "--requirement", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own words only
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise MissingPrerequisite(f"{lock.name} cannot be installed: {last[:200]}")


def _weigh(tree: Path) -> Tree:
    series = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = tree / "venv" / "lib" / series / "site-packages"
    for name in ("pip", "setuptools", "pkg_resources", "_distutils_hack"):  # the image's last stage has no installer
        shutil.rmtree(packages / name, ignore_errors=True)
    (packages / "distutils-precedence.pth").unlink(missing_ok=True)
    sizes = {folder.name: _size(folder) for folder in (*packages.iterdir(), tree / "app") if folder.is_dir()}
    largest = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]
    files = sum(1 for path in tree.rglob("*") if path.is_file())
    return Tree(str(tree), _size(packages) + _size(tree / "app"), files, tuple(largest))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
