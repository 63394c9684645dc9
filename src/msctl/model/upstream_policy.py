"""How the gateway talks to a service. Frozen plain data, part of the Project."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from msctl.model.route_policies import StickySpec

T = TypeVar("T")


class Balance(StrEnum):
    """How an instance is chosen among the ready ones."""

    LEAST_LOADED = "least-loaded"
    ROUND_ROBIN = "round-robin"


class FailureKind(StrEnum):
    """What can be a failure of an instance."""

    CONNECT = "connect"
    """It cannot be connected to."""
    RESET = "reset"
    """It ends the connection in the middle of an exchange."""
    MALFORMED = "malformed"
    """What it sends is not HTTP."""
    DEADLINE = "deadline"
    """It does not answer in time."""
    STATUS_5XX = "5xx"
    """Its application answers with a 5xx, or its handler raises."""


INSTANCE_FAILURES = (
    FailureKind.CONNECT,
    FailureKind.RESET,
    FailureKind.MALFORMED,
    FailureKind.DEADLINE,
)
"""The failures of an instance, not of the application that runs in it."""


@dataclass(frozen=True, slots=True)
class UpstreamPolicy:
    """How the gateway talks to a service; None leaves the decision to the level above.

    A route's policy comes before its service's, and that before the gateway's own values.
    Times are in seconds, sizes in bytes (0 = no limit).
    """

    connect_timeout: float | None = None
    response_timeout: float | None = None
    idle_timeout: float | None = None
    stream_idle_timeout: float | None = None
    max_body: int | None = None
    retries: int | None = None
    pool_size: int | None = None
    balance: Balance | None = None
    breaker_on: tuple[FailureKind, ...] | None = None
    sticky: StickySpec | None = None


def first_set(*values: T | None) -> T:
    """Return the first value that is not None, of the levels from a route's up; the last never is."""
    return next(value for value in values if value is not None)
