"""`msctl` and `python -m msctl`."""

from __future__ import annotations

# The C part of signal: importing the rest takes milliseconds in which Ctrl-C would be a traceback.
import _signal as signal  # type: ignore[import-not-found]
import os
import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line; Ctrl-C before the first verb and after the last exits with 130, no traceback.

    Importing takes long enough to interrupt, and a KeyboardInterrupt within an import or at the end of the
    interpreter can be lost or end in death by signal. There is nothing to clean up then.
    """
    handler = signal.getsignal(signal.SIGINT)
    is_default = handler is signal.default_int_handler  # `nohup` and `&` of a script ignore the signal
    if is_default:
        signal.signal(signal.SIGINT, _exit_at_once)
    try:
        from msctl.cli.app import main as run

        if is_default:
            signal.signal(signal.SIGINT, handler)
        code = run()
    except KeyboardInterrupt:
        code = INTERRUPTED
    finally:
        if is_default:
            signal.signal(signal.SIGINT, _exit_at_once)
    if code == INTERRUPTED:
        # Of `python -m`, Python makes death by signal where a KeyboardInterrupt has passed an exec(), as
        # dataclasses use it, even if it was caught.
        _flush()
        os._exit(code)
    sys.exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # there is none, nobody reads it, or it is closed
            pass


def _exit_at_once(_number: int, _frame: object) -> None:
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
