"""Which service a frame on the stack works for, so that what blocks the loop can be named."""

from __future__ import annotations

from types import CodeType, FrameType
from typing import Protocol, TypeVar


class _Function(Protocol):
    @property
    def __code__(self) -> CodeType: ...


F = TypeVar("F", bound=_Function)

_SERVING: set[CodeType] = set()


def serves(function: F) -> F:
    """Mark a function that runs a service's code and has the service's name in its `msctl_service`."""
    _SERVING.add(function.__code__)
    return function


def service_of(frame: FrameType) -> str | None:
    """The service whose code this frame runs, if it is one of the marked functions."""
    return frame.f_locals.get("msctl_service") if frame.f_code in _SERVING else None
