"""Tracebacks that start at the user's own code."""

from __future__ import annotations

import traceback
from pathlib import Path

_OURS = Path(__file__).parents[2]
_LIBRARY = Path(traceback.__file__).parent
_MACHINERY = ("<frozen ", *(str(_LIBRARY / name) for name in ("importlib", "asyncio", "concurrent")))
_EXAMPLES = str(_OURS / "services")


def user_traceback(error: BaseException) -> str:
    """Format the traceback from the first frame of the user's code; in full if there is none."""
    summary = traceback.TracebackException.from_exception(error)
    frames = list(summary.stack)
    mine = next((n for n, frame in enumerate(frames) if not _machinery(frame.filename)), None)
    if mine is not None:
        summary.stack = traceback.StackSummary.from_list(frames[mine:])
    return "".join(summary.format()).rstrip()


def _machinery(file: str) -> bool:
    ours = file.startswith(str(_OURS)) and not file.startswith(_EXAMPLES)
    return ours or file.startswith(_MACHINERY)
