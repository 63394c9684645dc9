"""Finds the service that a stack frame works for, so that the loop monitor can name it."""

from __future__ import annotations

from types import CodeType, FrameType
from typing import Protocol, TypeVar


class _Function(Protocol):
    @property
    def __code__(self) -> CodeType: ...


F = TypeVar("F", bound=_Function)

_SERVING: set[CodeType] = set()


def serves(function: F) -> F:
    """Mark a function that runs a service's code and has its name in the local `msctl_service`."""
    _SERVING.add(function.__code__)
    return function


def service_of(frame: FrameType) -> str | None:
    """The service that a frame of a marked function works for; None for other frames."""
    return frame.f_locals.get("msctl_service") if frame.f_code in _SERVING else None
