"""What follows from a service's declaration: where it runs and listens, how it is stopped; pure."""

from __future__ import annotations

import re
from dataclasses import replace

from msctl.errors import ConfigError
from msctl.model.address import Address
from msctl.model.project import Isolation, Project, ServiceSpec
from msctl.model.snapshots import GATEWAY, Kind

DRAIN_S = 5.0
"""Default stop timeout of a service in the stack's own process: its requests have nowhere else to go."""
STOP_S = 10.0
"""Default stop timeout of a process, from SIGTERM to SIGKILL."""


def as_run(project: Project) -> Project:
    """The project without what counts for nothing: how a service would run here that runs elsewhere."""
    return replace(project, services=tuple(map(_as_run, project.services)))


def _as_run(spec: ServiceSpec) -> ServiceSpec:
    if spec.url is None:
        return spec
    return ServiceSpec(
        spec.name,
        url=spec.url.rstrip("/"),
        routes=spec.routes,
        health=spec.health,
        autostart=spec.autostart,
        policy=spec.policy,
    )


def runs_here(spec: ServiceSpec) -> bool:
    """Whether the service lives in the stack's own process."""
    return spec.kind is Kind.HOSTED and spec.isolation is Isolation.NONE


def address_of(spec: ServiceSpec, project: Project) -> Address | None:
    """Where a service is declared to listen; on the gateway's port, where and how the gateway does."""
    gateway = project.gateway
    if gateway is not None and (spec.name == GATEWAY or (spec.port and spec.port == gateway.port)):
        return Address(gateway.host, gateway.port, tls=gateway.tls.enabled)
    return None if spec.port is None else Address(spec.host, spec.port)


def listens(spec: ServiceSpec) -> bool:
    """Whether a child is expected to accept connections. $PORT is there for any program, as with
    other process managers; that it has to listen there follows only from what is declared of it."""
    declared = spec.port is not None or bool(spec.routes or spec.health)
    return not spec.oneshot and (declared or spec.command is None)


def probed(spec: ServiceSpec) -> bool:
    """Whether there is a way to learn that it is ready, other than that it runs."""
    return spec.kind is not Kind.COMMAND or listens(spec) or spec.ready_log is not None


def stop_timeout(spec: ServiceSpec) -> float:
    """Seconds that the service may take to stop in a stack: its stop_timeout, else the default of its kind.

    The gateway's is its drain_timeout, which the configuration puts into its spec.
    """
    if spec.stop_timeout is not None:
        return spec.stop_timeout
    return DRAIN_S if runs_here(spec) else STOP_S


def process_stop_timeout(spec: ServiceSpec) -> float:
    """Seconds that a process which runs this service alone may take from SIGTERM to SIGKILL.

    It includes the drain of a hosted service and the cleanup after it.
    """
    return STOP_S if spec.stop_timeout is None else spec.stop_timeout


def check(project: Project) -> None:
    """Raise ConfigError for what cannot be run: clashes, replicas inside the stack, a bad ready_log."""
    _check_clashes(project)
    for spec in project.services:
        if spec.replicas > 1 and runs_here(spec):
            raise ConfigError(
                f"{project.source}: service {spec.name!r} runs inside the stack's own process, "
                f"of which there is one, and cannot have {spec.replicas} replicas",
                hint=f'set isolation = "process" under [services.{spec.name}]',
            )
        try:
            re.compile(spec.ready_log or "")
        except re.error as error:
            raise ConfigError(
                f"{project.source}: ready_log of service {spec.name!r} is not a regular expression: {error}",
                hint="characters such as ( and [ are written with a backslash before them",
            ) from error


def _check_clashes(project: Project) -> None:
    """Raise ConfigError if two services want one address, other than hosted ones the gateway's."""
    seen: list[tuple[Address, ServiceSpec]] = []
    for spec in project.services:
        address = address_of(spec, project)
        if address is None:
            continue
        for other_address, other in seen:
            on_purpose = (
                project.gateway is not None
                and address.port == project.gateway.port
                and runs_here(spec)
                and runs_here(other)
            )
            if address.overlaps(other_address) and not on_purpose:
                raise ConfigError(
                    f"{project.source}: services {other.name!r} and {spec.name!r} both listen on {address}",
                    hint="give one of them another port; only hosted services may share one, the gateway's",
                )
        seen.append((address, spec))
