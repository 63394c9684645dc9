"""What a simulation cannot hold: named with the line of the user's code that wants it, and the run's end.

The code under test may catch the error, as a web framework does. The first one is kept, and the loop ends the
run with it.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path
from types import FrameType, TracebackType

_LIBRARIES = ("site-packages", "dist-packages")


class NotSimulatedError(RuntimeError):
    """The code under test uses what a simulation cannot hold; the text names it, `place` is file:line."""

    def __init__(self, text: str, place: str = "") -> None:
        super().__init__(text)
        self.place = place


class BlockedError(BaseException):
    """Code does not give the loop its turn. No code of the run may catch it."""


class StuckError(RuntimeError):
    """Nothing can happen any more, or the clock does not move."""

    def __init__(self, text: str, place: str = "") -> None:
        super().__init__(text)
        self.place = place


class Refusals:
    """The first thing that a run could not hold, and which code is the user's."""

    def __init__(self, root: Path | None = None, scenario: Path | None = None) -> None:
        """`root` is the project's folder."""
        self.first: NotSimulatedError | StuckError | None = None
        self._root = None if root is None else f"{root}/"
        self._scenario = None if scenario is None else str(scenario)

    def refuse(self, text: str) -> NotSimulatedError:
        """The error to raise for something that the running code wants."""
        error = NotSimulatedError(text, self.place(_outward(sys._getframe(1))))
        self.first = self.first or error
        return error

    def blocked(self, text: str, frame: FrameType | None) -> BlockedError:
        """The error to raise in code that does not let the loop run."""
        self.first = self.first or StuckError(text, self.place(_outward(frame)))
        return BlockedError(text)

    def place_of(self, error: BaseException) -> str:
        """Where an error came from."""
        if isinstance(error, NotSimulatedError | StuckError):
            return error.place
        return self.place(reversed(list(_inward(error.__traceback__))))

    def place(self, frames: Iterable[tuple[str, int]]) -> str:
        """The innermost line of the user's code, else of a library, of frames from the innermost outward."""
        seen = list(takewhile(lambda frame: frame[0] != _LOOP, frames))
        for wanted in (self._is_users, _is_foreign):
            for file, line in seen:
                if wanted(file):
                    return f"{file}:{line}"
        return ""

    def _is_users(self, file: str) -> bool:
        if file == self._scenario:
            return True
        if self._root is None or not file.startswith(self._root):
            return False
        return not any(part in _LIBRARIES for part in Path(file[len(self._root) :]).parts)


_LOOP = str(Path(__file__).with_name("virtual_time.py"))
"""Whoever runs the loop is no part of the run."""
_STANDARD = f"{sysconfig.get_path('stdlib')}/"
_OWN = f"{Path(__file__).parent.parent}/"


def _is_foreign(file: str) -> bool:
    """Whether a file is neither ours nor Python's."""
    if file.startswith(("<", _OWN)):
        return False
    return not file.startswith(_STANDARD) or any(part in _LIBRARIES for part in Path(file).parts)


def _outward(frame: FrameType | None) -> Iterable[tuple[str, int]]:
    while frame is not None:
        yield frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back


def _inward(traceback: TracebackType | None) -> Iterable[tuple[str, int]]:
    while traceback is not None:
        yield traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
        traceback = traceback.tb_next
