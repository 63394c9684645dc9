"""What a hosted service's log says about failures of its code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from msctl.telemetry.logs.hub import LogHub, current_service
from msctl.telemetry.logs.traceback import user_traceback
from msctl.telemetry.trace_context import record_exception

_TRACEBACK_LINES = 40


class ServiceLog:
    """The log of one service."""

    def __init__(self, logs: LogHub, service: str) -> None:
        self._logs = logs
        self.service = service

    def line(self, text: str, level: str = "error") -> None:
        self._logs.append(self.service, text, level)

    def failed(self, what: str, error: BaseException) -> None:
        """Log that `what` failed, with the traceback from the first frame of the user's code.

        The span of the request, or the message, that failed has the exception too.
        """
        record_exception(error)
        self._logs.append(self.service, f"{what} failed", "error")
        self._logs.append(self.service, shorten(user_traceback(error)), "error")


@contextmanager
def log_as(service: str) -> Iterator[None]:
    """Attribute log lines of this context, and of tasks started in it, to `service`."""
    token = current_service.set(service)
    try:
        yield
    finally:
        current_service.reset(token)


def describe(error: BaseException) -> str:
    """Return an exception and its notes in one line: "ModuleNotFoundError: No module named 'shop'"."""
    texts = (str(error), *getattr(error, "__notes__", ()))
    lines = [text.strip().splitlines()[0] for text in texts if text.strip()]
    return f"{type(error).__name__}: {'; '.join(lines)}" if lines else type(error).__name__


def shorten(text: str) -> str:
    """Return the last lines of a traceback, and the number of lines omitted."""
    lines = text.rstrip().splitlines()
    omitted = len(lines) - _TRACEBACK_LINES
    if omitted <= 0:
        return "\n".join(lines)
    return "\n".join([f"({omitted} lines omitted)", *lines[omitted:]])
