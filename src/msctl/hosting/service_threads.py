"""Threads that a service's code starts: what they print and log is the service's.

Whose code runs is known from a context variable, and Python gives a new thread an empty context. So
`threading.Thread` passes the service on, and the loop's own threads, which services share, take it over
with each call, together with the trace of the request. All other variables stay as Python has them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, Token
from functools import partial
from typing import Any, ParamSpec, TypeVar

from msctl.model.current_context import current_context
from msctl.telemetry.logs.hub import STACK, current_service
from msctl.telemetry.trace_context import current_trace

T = TypeVar("T")
P = ParamSpec("P")


class ServiceExecutor(ThreadPoolExecutor):
    """The threads of `loop.run_in_executor(None, …)`."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return super().submit(_as_now(fn), *args, **kwargs)


@contextmanager
def service_threads() -> Iterator[None]:
    """Let threads belong to the service that starts them while the context is open."""
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if current_service.get() != STACK:
            thread.run = _as_now(thread.run, traced=False)  # type: ignore[method-assign]  # of this one thread
        real(thread)

    patched: Any = threading.Thread
    patched.start = start
    try:
        yield
    finally:
        patched.start = real


def _as_now(call: Callable[P, T], *, traced: bool = True) -> Callable[P, T]:
    """Return `call`, to be called elsewhere, for the service that is current here."""
    service, context = current_service.get(), current_context.get(None)
    if service == STACK:
        return call
    return partial(_call, service, context, current_trace.get() if traced else None, call)


def _call(service: str, context: Any, trace: Any, call: Callable[..., T], *args: Any, **options: Any) -> T:
    tokens: list[tuple[ContextVar[Any], Token[Any]]] = [
        (current_service, current_service.set(service)),
        (current_trace, current_trace.set(trace)),
    ]
    if context is not None:
        tokens.append((current_context, current_context.set(context)))
    try:
        return call(*args, **options)
    finally:
        for variable, token in tokens:
            variable.reset(token)
