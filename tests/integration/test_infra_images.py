"""Each image's installed tree, built without Docker, does what the image is for.

They install packages, so they run only on request: ``IMAGE_TREES=1 pytest tests/integration/test_infra_images.py``.
"""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from infra import trees
from infra.endpoint import STARTUP_S
from tests.support.bundles import write_test_bundle
from tests.support.emulators import free_port
from tests.support.images import NOBODY, close_to_writing, count_kernels, files, other_user, two_folders
from tests.support.payments import payment

pytestmark = pytest.mark.skipif(
    not os.environ.get("IMAGE_TREES"), reason="installs packages for minutes; set IMAGE_TREES=1"
)
ROOT = Path(__file__).resolve().parents[2]
# Bytes an image's tree may have, packages and our rooms together.
ROOM = {"inference": 320e6, "lambda": 480e6, "job": 1_700e6}


@pytest.fixture(scope="module")
def inference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trees") / "inference"
    assert trees.build("inference", folder).total < ROOM["inference"]
    return folder


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trees") / "lambda"
    assert trees.build("lambda", folder).total < ROOM["lambda"]
    return folder


def answer(url: str, body: bytes | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as got:
            return int(got.status), got.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def await_ping(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + STARTUP_S  # what SageMaker allows; kernels are compiled anew here
    while time.monotonic() < deadline:
        assert process.poll() is None, "serve ended"
        try:
            if answer(f"http://127.0.0.1:{port}/ping")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    pytest.fail("serve never became healthy")


def test_scorer_serves_from_its_own_tree_and_drains(inference: Path, tmp_path: Path) -> None:
    model = write_test_bundle(tmp_path / "opt" / "ml" / "model")
    port = free_port()
    settings = {"TOLLGATE_MODEL_DIR": str(model), "TOLLGATE_BIND_PORT": str(port), "TOLLGATE_BIND_HOST": "127.0.0.1"}
    settings |= {"TOLLGATE_REDIS_PORT": str(free_port()), "NUMBA_CACHE_DIR": str(tmp_path / "numba")}
    place = {**trees.environment(inference), **settings, "NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": ""}
    warm = [str(trees.python(inference)), str(ROOT / "infra" / "images" / "inference" / "warm.py")]
    subprocess.run(warm, env=place, check=True, capture_output=True)
    compiled = sorted((tmp_path / "numba").rglob("*.nbc"))
    process = subprocess.Popen(
        [str(ROOT / "infra" / "images" / "inference" / "serve")],
        env=place,
        cwd=inference / "app",
        stderr=subprocess.DEVNULL,
    )
    try:
        await_ping(port, process)
        status, body = answer(f"http://127.0.0.1:{port}/invocations", payment_bytes())
        assert status == 200
        assert json.loads(body)["outcome"] in ("approve", "review", "decline")
        assert answer(f"http://127.0.0.1:{port}/invocations", b"{}")[0] == 422
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert len(compiled) > 10
        assert sorted((tmp_path / "numba").rglob("*.nbc")) == compiled, "the warmed image compiled something"
    finally:
        process.kill()
        process.wait()


def payment_bytes() -> bytes:
    import msgspec

    return msgspec.json.encode(payment(1))


def test_scorers_tree_holds_neither_feast_nor_pandas_nor_boto(inference: Path) -> None:
    for package in ("feast", "pandas", "boto3", "xgboost", "pip"):
        done = subprocess.run(
            [str(trees.python(inference)), "-c", f"import {package}"],
            env=trees.environment(inference),
            capture_output=True,
            check=False,
        )
        assert b"ModuleNotFoundError" in done.stderr, package


@pytest.mark.skipif(not other_user(), reason="only root with setpriv can become another user")
@pytest.mark.parametrize("image", ["inference", "lambda"])
def test_another_user_compiles_nothing_in_a_tree_that_nobody_can_write_to(
    image: str, request: pytest.FixtureRequest
) -> None:
    tree = request.getfixturevalue({"inference": "inference", "lambda": "function"}[image])
    warm = ROOT / "infra" / "images" / image / "warm.py"
    place = {**trees.environment(tree), "NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": ""}
    with two_folders() as (cache, theirs):
        place["NUMBA_CACHE_DIR"] = str(cache)
        assert count_kernels(trees.python(tree), place, [warm])["compiled"]
        close_to_writing(cache)
        before = files(cache)
        found = count_kernels(trees.python(tree), {**place, "TMPDIR": str(theirs)}, [warm], prefix=other_user())
        assert (found["user"], found["compiled"]) == (NOBODY, [])
        assert found["cached"] >= 4
        assert files(cache) == before


def test_functions_entry_points_import_in_their_tree(function: Path) -> None:
    import_all(function, ("streaming.handler", "infra.approval"))


def test_jobs_entry_points_import_in_their_tree(tmp_path: Path) -> None:
    tree = tmp_path / "job"
    assert trees.build("job", tree).total < ROOM["job"]
    import_all(tree, ("training.__main__", "streaming.__main__", "feast.cli.cli", "stores.offline_store"))


def import_all(tree: Path, modules: tuple[str, ...]) -> None:
    for module in modules:
        done = subprocess.run(
            [str(trees.python(tree)), "-c", f"import {module}"],
            env=trees.environment(tree),
            capture_output=True,
            check=False,
            text=True,
        )
        assert done.returncode == 0, done.stderr
