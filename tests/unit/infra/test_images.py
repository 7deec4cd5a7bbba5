"""What each image starts can be imported with the packages and rooms that the image has, and no others.

The whole trees are built by ``tests/integration/test_infra_images.py``, on request; this one always runs.
"""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from infra import rollouts, stream
from infra.learning import NIGHTLY_COMMAND
from infra.sbom import LOCKS
from infra.trees import ROOMS

ROOT = Path(__file__).resolve().parents[3]
IMAGES = ROOT / "infra" / "images"
STARTED = {
    "inference": ("serving.__main__",),
    "lambda": (stream.HANDLER.rpartition(".")[0], rollouts.HANDLER.rpartition(".")[0]),
    "job": ("streaming.__main__", "training.__main__", "retraining.__main__", "feast.cli.cli"),
}
"""Modules that an image's processes start with."""

IMPORT = """
import importlib, importlib.abc, json, sys
closed = frozenset(json.loads(sys.argv[1]))
class Closed(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in closed:
            raise ModuleNotFoundError(f"{name} is not in this image", name=name)
sys.meta_path.insert(0, Closed())
for module in sys.argv[2:]:
    importlib.import_module(module)
"""


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def closed(image: str) -> list[str]:
    """Return the top-level modules that are installed here and are not in an image."""
    locked = set()
    for lock in LOCKS[image]:
        text = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
        locked |= {plain(found) for found in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==", text, re.MULTILINE)}
    ours = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    absent = {
        module
        for module, owners in packages_distributions().items()
        if not locked & {plain(owner) for owner in owners} and module not in ours
    }
    return sorted((absent | ours - set(ROOMS[image])) - set(sys.stdlib_module_names))


def imported(image: str, *modules: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-W", "ignore", "-c", IMPORT, json.dumps(closed(image)), *modules]
    place = {**os.environ, "PYTHONPATH": str(ROOT), "FEAST_USAGE": "False", **variables}
    return subprocess.run(command, cwd=ROOT, env=place, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("image", sorted(STARTED))
def test_everything_an_image_starts_can_be_imported_in_it(image: str) -> None:
    done = imported(image, *STARTED[image])
    assert done.returncode == 0, done.stderr


def test_what_an_image_lacks_is_refused_here_too() -> None:
    for image, module in (("lambda", "troposphere"), ("lambda", "serving"), ("inference", "boto3"), ("job", "infra")):
        assert f"{module} is not in this image" in imported(image, module).stderr


ZONES = """
from fraud.scaling import PLAN
from infra.autoscaling import Scaling
assert PLAN.minimum_at(1_790_848_800_000) > PLAN.limits.min_instances  # noon of the first of October, in Berlin
"""


def test_deployers_function_knows_time_zones_though_its_system_may_not(tmp_path: Path) -> None:
    (tmp_path / "zones.py").write_text(ZONES, encoding="utf-8")
    place = {"PYTHONTZPATH": "", "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = imported("lambda", "zones", **place)
    assert done.returncode == 0, done.stderr


def test_commands_of_the_images_are_those_that_are_imported() -> None:
    text = {image: (IMAGES / image / "Dockerfile").read_text(encoding="utf-8") for image in STARTED}
    assert f'CMD ["{stream.HANDLER}"]' in text["lambda"]
    assert f"COPY infra/images/job/nightly {NIGHTLY_COMMAND}\n" in text["job"]
    for image, rooms in ROOMS.items():
        copied = set(re.findall(r"^COPY ([a-z_]+) \S+$", text[image], re.MULTILINE))
        assert copied == set(rooms)
    places = [IMAGES / "job" / "nightly", IMAGES / "job" / "train", IMAGES / "inference" / "serve"]
    scripts = "\n".join(path.read_text(encoding="utf-8") for path in places)
    started = set(re.findall(r"^(?:exec )?python -m (\w+)", scripts, re.MULTILINE))
    assert started
    assert {f"{room}.__main__" for room in started} <= {module for modules in STARTED.values() for module in modules}
