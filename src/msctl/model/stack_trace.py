"""Finds the line that raised an exception in a stack trace of Python, JavaScript, Java or Go. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PYTHON = re.compile(r'^\s*File "([^"\n]+)", line (\d+), in (.+)$', re.MULTILINE)
_AT = re.compile(r"^\s*at (?:(.+?) ?\()?((?:[A-Za-z]:)?[^()\n]+?):(\d+)(?::\d+)?\)?\s*$", re.MULTILINE)
_GO = re.compile(r"^\t(\S+\.go):(\d+)", re.MULTILINE)
_LIBRARIES = (
    "site-packages/",
    "dist-packages/",
    "/lib/python",
    "<frozen",
    "node_modules/",
    "node:",
    "/go/src/",
)


def raised_at(stack: str) -> str:
    """Return `file:line in function` of the innermost frame that is the program's own; empty for none.

    Frames of libraries are passed over as long as there is another one.
    """
    if found := _PYTHON.findall(stack):
        file, line, function = _own(found[::-1], 0)
        return f"{file}:{line} in {function}"
    if found := _AT.findall(stack):
        function, file, line = _own(found, 1)
        return f"{file}:{line} in {function}" if function else f"{file}:{line}"
    if found := _GO.findall(stack):
        file, line = _own(found, 0)
        return f"{file}:{line}"
    return ""


def _own(frames: Sequence[Sequence[str]], file: int) -> Sequence[str]:
    own = (frame for frame in frames if not any(library in frame[file] for library in _LIBRARIES))
    return next(own, frames[0])
