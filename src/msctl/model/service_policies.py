"""When a service starts, when it is ready, and when it is restarted.

Frozen plain data, part of the Project; times are in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class RestartPolicy(StrEnum):
    """When an instance that has exited is restarted."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NO = "no"


class Condition(StrEnum):
    """The state that a dependency must reach before its dependent starts."""

    STARTED = "started"
    READY = "ready"
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True)
class Dependency:
    """`service` must have reached `condition` first; with `restart`, its restart restarts the dependent."""

    service: str
    condition: Condition = Condition.READY
    restart: bool = False


@dataclass(frozen=True, slots=True)
class HealthSpec:
    """How a service is probed; one of `http`, `tcp`, `exec` and `log` is set. Times are in seconds.

    `http` is a path, asked for with `headers`, over TLS with `https` (no certificate is checked). `tcp` is
    True, or a port. `exec` is a command that exits with 0, `log` a regular expression of an output line.
    `port` replaces the service's own. `interval`, `timeout`, `retries` and `start_period` mean what they do
    in a compose file; None of the last means the service's start_timeout.
    """

    http: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    https: bool = False
    port: int | None = None
    tcp: bool | int = False
    exec: tuple[str, ...] | None = None
    log: str | None = None
    interval: float | None = None
    timeout: float = 1.0
    retries: int = 3
    start_period: float | None = None
