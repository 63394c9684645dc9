"""What an edited configuration changes in a stack that runs: which services, and how gently. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace

from msctl.model.project import Project, ServiceSpec
from msctl.model.snapshots import GATEWAY

# What the supervisor and the gateway can take up while an instance runs on. Any other key is part of
# what an instance was started with.
_LIVE = {
    "routes",
    "depends_on",
    "autostart",
    "restart",
    "stop_timeout",
    "start_timeout",
    "success_exit_codes",
}
_LIVE |= {"liveness", "oneshot", "policy"}


@dataclass(frozen=True, slots=True)
class Changes:
    """Names of services, each in one of the first five, in the order of declaration.

    `restarted` need new instances; `scaled` only more or fewer; `updated` only go by new rules. The
    gateway is among them only in what `with_edited` gives. `gateway` and `broker` say whether their
    own settings changed (or the gateway came or went, or a key of a guarded route is another).
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    scaled: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    gateway: bool = False
    broker: bool = False

    def __bool__(self) -> bool:
        return self != Changes()


def diff(old: Project, new: Project) -> Changes:
    """What must be done to a stack that runs `old` so that it runs `new`.

    A service is restarted too when what it was told of others has changed: the broker's URL, or the
    address of one that it depends on.
    """
    before, after = _declared(old), _declared(new)
    kept = [name for name in after if name in before]
    broker = old.broker != new.broker
    restarted = [
        name
        for name in kept
        if old.broker.url != new.broker.url
        or _started_with(before[name]) != _started_with(after[name])
        or _told(before[name], old) != _told(after[name], new)
    ]
    rest = [name for name in kept if name not in restarted and before[name] != after[name]]
    scaled = [name for name in rest if before[name].replicas != after[name].replicas]
    return Changes(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        restarted=tuple(restarted),
        scaled=tuple(scaled),
        updated=tuple(name for name in rest if name not in scaled),
        gateway=(old.gateway, old.secrets) != (new.gateway, new.secrets),
        broker=broker,
    )


def with_edited(changes: Changes, old: Project, new: Project, edited: Collection[str]) -> Changes:
    """The changes, with the services whose source was edited and the gateway in their places.

    The gateway needs a new instance only where it moves; its settings change while it serves.
    """
    restarted = {*changes.restarted, *edited} - {*changes.added, *changes.removed}
    added, removed = set(changes.added), set(changes.removed)
    before, after = old.gateway, new.gateway
    if before is None and after is not None:
        added.add(GATEWAY)
    elif before is not None and after is None:
        removed.add(GATEWAY)
    elif before is not None and after is not None and (before.host, before.port) != (after.host, after.port):
        restarted.add(GATEWAY)
    return replace(
        changes,
        added=_ordered(new, added),
        removed=_ordered(old, removed),
        restarted=_ordered(new, restarted),
        scaled=_ordered(new, set(changes.scaled) - restarted),
        updated=_ordered(new, set(changes.updated) - restarted),
    )


def without(old: Project, new: Project, names: Collection[str]) -> Project:
    """What runs where `new` could not be had for some services: they run as in `old`, by the new rules."""
    services = tuple(
        _kept(old.service(spec.name), spec) if spec.name in names else spec for spec in new.services
    )
    gateway = new.gateway
    if GATEWAY in names and gateway is not None and old.gateway is not None:
        gateway = replace(gateway, host=old.gateway.host, port=old.gateway.port)
    return replace(new, services=services, gateway=gateway)


def _kept(old: ServiceSpec | None, new: ServiceSpec) -> ServiceSpec:
    if old is None:
        return new
    return replace(old, **{name: getattr(new, name) for name in _LIVE})


def _ordered(project: Project, names: Collection[str]) -> tuple[str, ...]:
    return tuple(spec.name for spec in project.services if spec.name in names)


def _declared(project: Project) -> Mapping[str, ServiceSpec]:
    return {spec.name: spec for spec in project.services if spec.name != GATEWAY}


def _started_with(spec: ServiceSpec) -> dict[str, object]:
    live = _LIVE | {"replicas"}
    return {field.name: getattr(spec, field.name) for field in fields(spec) if field.name not in live}


def _told(spec: ServiceSpec, project: Project) -> dict[str, object]:
    """What stands behind each `$<NAME>_URL` of the service: its own address, or its route at the gateway."""
    found: dict[str, object] = {}
    for dependency in spec.depends_on:
        other = project.service(dependency.service)
        if other is None:
            continue
        if other.url is not None or other.port is not None or not other.routes or project.gateway is None:
            found[other.name] = (other.url, other.host, other.port)
        else:
            found[other.name] = (project.gateway.host, project.gateway.port, other.routes[0])
    return found
