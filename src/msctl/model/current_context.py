"""The context of the hosted service whose code runs, for applications that no factory makes."""

from __future__ import annotations

from contextvars import ContextVar

from msctl.model.service_context import ServiceContext

current_context: ContextVar[ServiceContext] = ContextVar("msctl_current_context")


def service_context() -> ServiceContext:
    """Return the context of the hosted service that calls.

    Known while its module is imported, in its lifespan, and in requests and what they start.
    Raises LookupError elsewhere, such as in a program that runs without msctl.
    """
    try:
        return current_context.get()
    except LookupError:
        raise LookupError("no hosted service of msctl runs here") from None
