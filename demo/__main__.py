"""``python -m demo``: the whole loop on one machine, from history to a report.

Nothing heavy is imported before the handlers of Ctrl-C and SIGTERM are in place: an interrupt in the first seconds ends
as orderly as a later one.
"""

import os
import sys

from demo.interrupt import INTERRUPTED, end_interrupted, leave_at_once, stop_in_order


def main() -> None:
    """Run the demo; an expected failure ends with one sentence and code 1, Ctrl-C with code 130."""
    leave_at_once()
    os.environ.setdefault("TQDM_DISABLE", "1")  # Feast draws bars of its own across the demo's lines
    try:
        _run()
    except KeyboardInterrupt:
        end_interrupted()


def _run() -> None:
    import typer
    from typer.exceptions import TyperException

    from demo.command import app
    from fraud.errors import TollgateError, sentence

    stop_in_order()
    try:
        if app(standalone_mode=False) == INTERRUPTED:  # so typer answers Ctrl-C
            raise KeyboardInterrupt
    except typer.Abort:
        raise KeyboardInterrupt from None
    except (TollgateError, OSError) as error:
        _end(sentence(error), 1)
    except TyperException as error:
        _end(str(error), 2)


def _end(sentence: str, code: int) -> None:
    sys.stderr.write(f"demo: {sentence}\n")
    raise SystemExit(code)


if __name__ == "__main__":
    main()
