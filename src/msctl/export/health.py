"""The health check of a service, as a target's engine runs it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from msctl.export.shell import reference_words, shell_command
from msctl.model.service_policies import HealthSpec
from msctl.model.service_spec import ServiceSpec

INTERVAL_S = 10.0
TIMEOUT_S = 2.0
RETRIES = 3


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One of: a GET of `path` on `port`, a connection to `port`, or the command `argv`. Times in seconds.

    `secret_headers` have `${NAME}` in their values, which only a program in the container can fill in.
    """

    port: int = 0
    path: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    secret_headers: Mapping[str, str] = field(default_factory=dict)
    https: bool = False
    argv: tuple[str, ...] = ()
    interval: float = INTERVAL_S
    timeout: float = TIMEOUT_S
    retries: int = RETRIES
    start_period: float = 60.0

    @property
    def interval_s(self) -> int:
        return max(1, math.ceil(self.interval))

    @property
    def timeout_s(self) -> int:
        return max(1, math.ceil(self.timeout))

    @property
    def start_period_s(self) -> int:
        return max(1, math.ceil(self.start_period))


def health_check(spec: ServiceSpec, port: int | None, path: str | None) -> HealthCheck | None:
    """The check of a service that listens on `port`, if it does, and answers at `path` when it is ready.

    None for a job, and for a service that nothing can be asked.
    """
    if spec.oneshot:
        return None
    health = spec.health
    if not isinstance(health, HealthSpec):
        return None if port is None else HealthCheck(port, path, start_period=spec.start_timeout)
    asked = health.port or (health.tcp if health.tcp is not True else None) or port or 0
    argv = () if health.exec is None else tuple(_filled(word, port) for word in health.exec)
    if (words := _referenced_words(spec)) is not None:
        argv = shell_command([_filled(word, port) for word in words])
    secret = _referenced_headers(spec)
    if not (argv or asked):
        return None
    return HealthCheck(
        asked,
        health.http,
        {name: value for name, value in health.headers.items() if name not in secret},
        secret,
        health.https,
        argv,
        interval=INTERVAL_S if health.interval is None else health.interval,
        timeout=health.timeout,
        retries=health.retries,
        start_period=spec.start_timeout if health.start_period is None else health.start_period,
    )


def _filled(word: str, port: int | None) -> str:
    """Fill in the service's own port, which the engine does not know as a variable."""
    return word if port is None else word.replace("${PORT}", str(port)).replace("$PORT", str(port))


def _referenced_words(spec: ServiceSpec) -> list[str] | None:
    """The words of `health.exec` with their `${...}`, if it has any."""
    found = {each.key[2:]: each.text for each in spec.references if each.key[:2] == ("health", "exec")}
    if not found or not isinstance(spec.health, HealthSpec):
        return None
    if () in found:
        return reference_words(found[()], f"services.{spec.name}.health.exec")
    return [found.get((index,), word) for index, word in enumerate(spec.health.exec or ())]


def _referenced_headers(spec: ServiceSpec) -> Mapping[str, str]:
    return {
        str(each.key[2]): each.text
        for each in spec.references
        if each.key[:2] == ("health", "headers") and len(each.key) > 2
    }
