"""Checks a fault against a running stack: whether its target exists and can have it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from msctl.errors import BrokerError, NotRunningError, UnknownServiceError, UsageError
from msctl.faults.kinds import FaultKind, Place, TargetType
from msctl.faults.spec import FaultSpec, Target
from msctl.hints import did_you_mean
from msctl.model.snapshots import GATEWAY, BrokerMode, Kind


@dataclass(frozen=True, slots=True)
class RunningService:
    """A service as faults see it: `instances` by name with their pid, None without a process of its own.

    `intercepted` is whether some of its requests pass the stack.
    """

    kind: Kind
    instances: Mapping[str, int | None]
    intercepted: bool = False
    probed: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """What exists in a running stack. `routes` are paths with whether they lead to a service.

    `queues`, `exchanges` and `connections` are those of the embedded broker. `exposed` are addresses that
    other machines reach.
    """

    services: Mapping[str, RunningService]
    routes: Mapping[str, bool] | None
    broker: BrokerMode
    queues: Sequence[str] = ()
    exchanges: Sequence[str] = ()
    connections: Sequence[str] = ()
    exposed: Sequence[str] = field(default_factory=tuple)
    faketime: str | None = None


def check(spec: FaultSpec, world: World, *, force: bool = False) -> FaultSpec:
    """Return the fault with its target resolved. Raises MsctlError for one that this stack cannot have."""
    if world.exposed and not force:
        raise UsageError(
            f"this stack listens on {', '.join(world.exposed)}, where other machines reach it",
            hint="faults are for this machine; if it is yours to break, add --force",
        )
    place = spec.info.place
    if place is Place.BROKER:
        return _broker(spec, world)
    target = spec.target
    if target.type is TargetType.ROUTE:
        _route(target.name, world)
        return spec
    spec = _resolve(spec, world)
    return _http(spec, world) if place is Place.HTTP else _process(spec, world)


def _route(path: str, world: World) -> None:
    if world.routes is None:
        raise NotRunningError("no gateway is running", hint="start it with: msctl start gateway")
    if path not in world.routes:
        hint = did_you_mean(path, world.routes)
        raise UsageError(f"there is no route {path!r}", hint=f"{hint}; list them with: msctl routes")
    if not world.routes[path]:
        raise UsageError(
            f"the gateway answers the route {path!r} itself: no service is behind it",
            hint="choose a route that leads to a service; list them with: msctl routes",
        )


def _resolve(spec: FaultSpec, world: World) -> FaultSpec:
    """Return the fault with a service or instance that exists."""
    target = spec.target
    instances = {name: service for service, one in world.services.items() for name in one.instances}
    if target.type is TargetType.SERVICE:
        if target.name in world.services:
            return spec
        if target.name in instances:
            return replace(spec, target=Target(TargetType.INSTANCE, target.name))
    elif target.name in instances:
        return spec
    known = [*world.services, *(instances if target.type is TargetType.INSTANCE else ())]
    raise UnknownServiceError(
        f"there is no {target.type} {target.name!r}", hint=did_you_mean(target.name, known)
    )


def service_of(spec: FaultSpec, world: World) -> str:
    """Return the name of the service that a resolved target is, or is an instance of."""
    name = spec.target.name
    if spec.target.type is TargetType.SERVICE:
        return name
    return next(service for service, one in world.services.items() if name in one.instances)


def _http(spec: FaultSpec, world: World) -> FaultSpec:
    name = service_of(spec, world)
    if name == GATEWAY:
        raise UsageError(
            "the gateway is where such faults happen, it cannot be their target",
            hint="choose a route, or a service behind it",
        )
    if not world.services[name].intercepted:
        raise UsageError(
            f"no request to {name!r} passes the stack: no route leads to it and it has no service address",
            hint='give it a route, or set [gateway] service_addresses = "all"',
        )
    return spec


def _process(spec: FaultSpec, world: World) -> FaultSpec:
    name = service_of(spec, world)
    service = world.services[name]
    if service.kind is Kind.REMOTE:
        raise UsageError(
            f"{name!r} runs elsewhere, so its process is out of reach",
            hint="faults of its requests are possible: delay, abort, slow-body, truncate-body, bandwidth",
        )
    if service.kind is Kind.HOSTED and not any(service.instances.values()):
        raise UsageError(
            f"{name!r} runs in the stack's own process, which {spec.kind} would break as a whole",
            hint='give it one: isolation = "process"; or break its requests: delay, abort',
        )
    if spec.kind in (FaultKind.FAILING_PROBE, FaultKind.SLOW_START) and not service.probed:
        raise UsageError(f"{name!r} has no health check, so {spec.kind} means nothing", hint="give it health")
    if spec.kind in (FaultKind.KILL, FaultKind.PAUSE):
        wanted = service.instances if spec.target.type is TargetType.SERVICE else [spec.target.name]
        if not any(service.instances[each] for each in wanted):
            raise NotRunningError(f"{spec.target} does not run", hint=f"start it with: msctl start {name}")
    if spec.kind is FaultKind.CLOCK_SKEW and world.faketime is None:
        raise UsageError(
            "clock-skew needs libfaketime, which is not installed",
            hint="install it, for example: apt-get install faketime",
        )
    return spec


def _broker(spec: FaultSpec, world: World) -> FaultSpec:
    if world.broker is not BrokerMode.EMBEDDED:
        raise BrokerError(
            f"{spec.kind} is possible with the embedded broker alone, and this stack uses one of mode "
            f"{world.broker}: msctl does not carry its messages",
            hint='set [broker] mode = "embedded"; or stop that broker with its own tools',
        )
    target = spec.target
    if target.type in (TargetType.QUEUE, TargetType.EXCHANGE):
        known = world.queues if target.type is TargetType.QUEUE else world.exchanges
        if target.name not in known:
            raise BrokerError(
                f"the broker has no {target.type} {target.name!r}", hint=did_you_mean(target.name, known)
            )
    if target.type is TargetType.CONNECTION and not any(
        fnmatchcase(name, target.name) for name in world.connections
    ):
        raise BrokerError(
            f"no open connection is named {target.name!r}", hint=did_you_mean(target.name, world.connections)
        )
    return spec
