"""Signal handlers that hosted services install.

A program of its own may take any signal. In the stack's process SIGINT, SIGTERM and SIGHUP end the stack
with all its services, so a service's handler for one of these is refused, and its log says so. Handlers of
other signals are installed as they are, also during an import: Python wants the main thread for that, and
imports run in others. A process that a service forks has its own handlers, as any program.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from msctl.forks import STOP_SIGNALS, on_fork

Refused = Callable[[str, str], None]
"""Called with a service and what is said of its handler; may be called in any thread."""


@contextmanager
def signal_handlers(
    loop: asyncio.AbstractEventLoop, owner: Callable[[], str | None], refused: Refused
) -> Iterator[None]:
    """Keep the handlers of STOP_SIGNALS while the context is open.

    `owner` says which service's code runs, None for the stack's own.
    """
    real, add, remove = signal.signal, loop.add_signal_handler, loop.remove_signal_handler
    current: Any = signal.getsignal
    said: set[tuple[str, str, str]] = set()

    def is_refused(number: int, frame: FrameType) -> bool:
        service = owner()
        if service is None or number not in STOP_SIGNALS:
            return False
        name = signal.Signals(number).name
        place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        if (service, name, place) in said:
            return True
        said.add((service, name, place))
        refused(
            service,
            f"the handler of {name} at {place} is not installed: the stack ends the service through its "
            "shutdown (lifespan, cleanup); a program that needs its own handlers is a command",
        )
        return True

    def set_handler(number: int, handler: Any, /) -> Any:
        if is_refused(number, sys._getframe(1)):
            return current(number)
        if owner() is not None and threading.current_thread() is not threading.main_thread():
            former = current(number)
            loop.call_soon_threadsafe(real, number, handler)
            return former
        return real(number, handler)

    def add_handler(number: int, callback: Callable[..., object], *args: Any) -> None:
        if not is_refused(number, sys._getframe(1)):
            add(number, callback, *args)

    def remove_handler(number: int) -> bool:
        return False if owner() is not None and number in STOP_SIGNALS else remove(number)

    patched: Any = loop
    installed: Any = set_handler
    signal.signal = installed
    patched.add_signal_handler, patched.remove_signal_handler = add_handler, remove_handler

    def let_be() -> None:
        signal.signal = real

    try:
        with on_fork(let_be):
            yield
    finally:
        let_be()
        del patched.add_signal_handler, patched.remove_signal_handler
