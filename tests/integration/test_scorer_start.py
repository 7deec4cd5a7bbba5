"""What a start of the scorer does and does not do, in a clean process: nothing is compiled that was compiled before."""

import os
import sys
from pathlib import Path

from tests.support.bundles import write_test_bundle
from tests.support.emulators import free_port
from tests.support.images import count_kernels
from tests.support.scorers import ROOT, scorer_environment

START = """
import os, signal, threading, time
from http.client import HTTPConnection

from fraud.transaction import encode_transaction
from serving.__main__ import main
from tests.support.scorers import payment


def decide_and_stop():
    for _ in range(3000):
        try:
            connection = HTTPConnection("127.0.0.1", int(os.environ["TOLLGATE_BIND_PORT"]), timeout=60)
            body = encode_transaction(payment(1))
            connection.request("POST", "/invocations?explain=1", body, {"content-type": "application/json"})
            assert connection.getresponse().status == 200
            break
        except OSError:
            time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)


threading.Thread(target=decide_and_stop, daemon=True).start()
try:
    main(["serve"])
except SystemExit as ended:
    assert ended.code == 0
"""


def test_a_second_start_compiles_no_kernel_and_finds_every_one(tmp_path: Path) -> None:
    script = tmp_path / "start.py"
    script.write_text(START)
    model = write_test_bundle(tmp_path / "model")
    place = scorer_environment(model_dir=model, redis_port=9, bind_port=free_port()) | {"PYTHONPATH": str(ROOT)}
    first = count_kernels(Path(sys.executable), place, [script])
    again = count_kernels(Path(sys.executable), place, [script])
    assert (again["user"], again["compiled"]) == (os.getuid(), [])
    assert again["cached"] >= max(4, len(first["compiled"]))
