"""The root logger of a process with hosted services: the stack's, whatever an application configures."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

_kept: list[logging.Handler] = []


@contextmanager
def root_handler(handler: logging.Handler) -> Iterator[None]:
    """Send the records of this process's `logging` to `handler` while the context is open."""
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    _kept.append(handler)
    try:
        yield
    finally:
        _kept.remove(handler)
        root.removeHandler(handler)


def enabled_loggers() -> list[logging.Logger]:
    """Return the loggers that are not disabled now, before an application is imported."""
    known = logging.getLogger().manager.loggerDict.copy().values()
    return [logger for logger in known if isinstance(logger, logging.Logger) and not logger.disabled]


def restore_root_handler(enabled: Iterable[logging.Logger]) -> None:
    """Undo what an application did to the root logger, such as `dictConfig` of a framework.

    Its handlers would take the records of all services, and print them as nobody's. And by default
    `dictConfig` disables all loggers that there are: of other services, and its own at another import.
    """
    for logger in enabled:
        logger.disabled = False
    root = logging.getLogger()
    if not _kept or _kept[-1] in root.handlers:
        return
    root.handlers[:] = [_kept[-1]]
    root.setLevel(logging.INFO)
