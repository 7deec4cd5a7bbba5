import io

import pytest

from demo.screen import CountColumn, Screen


def test_step_is_one_line_with_name_seconds_and_note(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen().step("Prove parity") as step:
        step.advance(1, 2)
        step.note = "2,398 vectors, " * 20 + "[0] mismatches"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("✓ Prove parity                     0.")
    assert line.endswith("s  " + step.note)


def test_result_is_on_standard_output_whole(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().rows("Result", [("payments scored", "x" * 200), ("took", "[1] s")])
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.splitlines() == [
        "",
        "Result",
        "",
        "payments scored" + " " * 17 + "x" * 200,
        "took" + " " * 28 + "[1] s",
    ]


def test_count_is_shown_once_there_is_a_total() -> None:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=io.StringIO())) as progress:
        task = progress.add_task("fit", total=None)
        assert CountColumn().render(progress.tasks[task]).plain == ""
        progress.update(task, completed=1200, total=5000)
        assert CountColumn().render(progress.tasks[task]).plain == "1,200/5,000"
