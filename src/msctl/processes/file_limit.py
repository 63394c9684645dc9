"""The limit of open files: raised for the stack, as it was for its children.

A stack holds pipes, listeners and connections of all its services, and the usual soft limit of 1,024 is soon
reached. Children keep the limit of the shell that started the stack: some programs use select(), which
breaks above 1,024, or close every descriptor up to the limit at their start.

A child is started with the raised limit and then gets the former one (prlimit), which it finds before its
program runs where setpriv precedes it. A system without prlimit keeps the limit.
"""

from __future__ import annotations

import contextlib
import resource

MOST = 1024 * 1024

_original: tuple[int, int] | None = None


def raise_file_limit() -> None:
    """Raise this process's soft limit to the hard one, at most `MOST`."""
    global _original
    if _original is not None or not hasattr(resource, "prlimit"):
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        _original = (soft, hard)


def restore_file_limit(pid: int) -> None:
    """Give a child the limit that this process had at its start."""
    if _original is not None:
        with contextlib.suppress(OSError, ValueError):  # it has exited
            resource.prlimit(pid, resource.RLIMIT_NOFILE, _original)
