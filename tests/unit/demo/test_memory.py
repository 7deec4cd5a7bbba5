import os
import subprocess
import sys

from demo.memory import MemoryWatch, family, high_water_kb, name

HOLD = "held = bytearray(b'x') * (150 * 2**20); del held; print('done', flush=True); input()"


def holding() -> "subprocess.Popen[bytes]":
    """A child that had 150 MB at its peak and gave them back."""
    child = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"done\n"
    return child


def test_peak_is_the_sum_over_all_processes_at_their_own_peaks() -> None:
    own = high_water_kb(os.getpid()) / 1024
    with holding() as one, holding() as two:
        watch = MemoryWatch()
        watch.look()
        assert {one.pid, two.pid} < set(family(os.getpid()))
        one.communicate(b"\n")
        two.communicate(b"\n")
    assert watch.peak_mb >= own + 300
    assert watch.peak_mb < own + 300 + 150  # two interpreters more, and what this process came to hold meanwhile
    watch.look()
    assert watch.peak_mb >= own + 300  # a process that has ended does not take its share of the peak away
    assert sum(sorted(watch.by_process.values())[-3:]) >= own + 299


def test_processes_that_are_not_ours_do_not_count() -> None:
    assert os.getppid() not in family(os.getpid())
    assert high_water_kb(2**22 + 1) == 0
    assert name(2**22 + 1) == "ended"


def test_watch_sees_a_process_that_came_and_went() -> None:
    with MemoryWatch() as watch, holding() as child:
        while watch.peak_mb < high_water_kb(os.getpid()) / 1024 + 150:
            pass
        child.communicate(b"\n")
    assert any(value >= 150 for process, value in watch.by_process.items() if str(os.getpid()) not in process)


def test_module_names_its_process() -> None:
    with subprocess.Popen([sys.executable, "-m", "http.server", "--help"], stdout=subprocess.PIPE) as child:
        assert name(child.pid) in {"http.server", "ended", ""}
