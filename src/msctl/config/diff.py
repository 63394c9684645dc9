"""The difference between a running configuration and an edited one: what reload must do. Pure.

Which keys are live is an attribute of each key in config/schema; nothing here lists them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace

from msctl.config.schema.gateway_keys import GATEWAY as GATEWAY_KEYS
from msctl.config.schema.health_keys import HEALTH_TABLE
from msctl.config.schema.service_keys import SERVICE
from msctl.config.schema.table import OnReload
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.project import Project
from msctl.model.service_policies import HealthSpec
from msctl.model.service_spec import ServiceSpec
from msctl.model.services import listens, probed, runs_here, shared_variables
from msctl.model.snapshots import GATEWAY, Kind

_LIVE = SERVICE.fields_of(OnReload.LIVE)
_STARTED_WITH = (
    frozenset(field.name for field in fields(ServiceSpec))
    - SERVICE.fields_of(OnReload.LIVE, OnReload.SCALE)
    - {"routed"}  # only what follows from it
)
_HEALTH_LIVE = HEALTH_TABLE.fields_of(OnReload.LIVE)
_GATEWAY_MOVED = tuple(name for name in GATEWAY_KEYS.fields_of(OnReload.RESTART) if name != "enabled")


@dataclass(frozen=True, slots=True)
class Changes:
    """Names of services, each in one of the first five fields, in the order of declaration.

    `restarted` need new instances; `scaled` more or fewer instances; `updated` only have edited live
    keys. The gateway is among them only in the result of `with_edited`. `gateway` and `broker` say
    whether their own settings changed (or the gateway was added or removed, or the secret of a guarded
    route changed).
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
    """The changes that turn a stack that runs `old` into one that runs `new`.

    A service is restarted too when its environment changes: `.env`, the broker's URL, or the address of
    a service that it depends on.
    """
    before, after = _declared(old), _declared(new)
    kept = [name for name in after if name in before]
    broker = old.broker != new.broker
    variables_changed = shared_variables(old) != shared_variables(new)
    restarted = [
        name
        for name in kept
        if old.broker.url != new.broker.url
        or _started_with(before[name]) != _started_with(after[name])
        or (before[name].kind is not Kind.REMOTE and variables_changed)
        or _addresses(before[name], old) != _addresses(after[name], new)
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
    """The changes, with the services with edited sources and the gateway added to them.

    The gateway needs a new instance only if its address changes; all its other keys are live.
    """
    restarted = {*changes.restarted, *edited} - {*changes.added, *changes.removed}
    added, removed = set(changes.added), set(changes.removed)
    before, after = old.gateway, new.gateway
    if before is None and after is not None:
        added.add(GATEWAY)
    elif before is not None and after is None:
        removed.add(GATEWAY)
    elif before is not None and after is not None and _moved(before, after):
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
    """`new`, with the services that could not be replaced as in `old` but for their live keys."""
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
    kept = replace(old, **{name: getattr(new, name) for name in _LIVE})
    return replace(kept, health=new.health) if _probe(old) == _probe(new) else kept


def _probe(spec: ServiceSpec) -> HealthSpec | None:
    """How the service is probed, whatever the live keys of `health` say about when."""
    if spec.health is None:
        return None
    health = spec.health if isinstance(spec.health, HealthSpec) else HealthSpec(http=spec.health)
    return replace(health, **{name: getattr(HealthSpec(), name) for name in _HEALTH_LIVE})


def _ordered(project: Project, names: Collection[str]) -> tuple[str, ...]:
    return tuple(spec.name for spec in project.services if spec.name in names)


def _declared(project: Project) -> Mapping[str, ServiceSpec]:
    return {spec.name: spec for spec in project.services if spec.name != GATEWAY}


def _moved(before: GatewaySpec, after: GatewaySpec) -> bool:
    return any(getattr(before, name) != getattr(after, name) for name in _GATEWAY_MOVED)


def _started_with(spec: ServiceSpec) -> dict[str, object]:
    """What is fixed in a running instance: the keys that are not live, and what follows from live ones.

    A command that gets its first route has to listen. `msctl serve`, which runs a hosted service in a
    process of its own, reads its stop timeout when it starts.
    """
    found: dict[str, object] = {name: getattr(spec, name) for name in _STARTED_WITH}
    found["file_variables"] = spec.file_variables
    found["health"] = _probe(spec)
    if not runs_here(spec):
        found |= {"listens": listens(spec), "probed": probed(spec)}
        if spec.command is None:
            found["stop_timeout"] = spec.stop_timeout
    return found


def _addresses(spec: ServiceSpec, project: Project) -> dict[str, object]:
    """What determines each `$<NAME>_URL` of the service: an address, or a route at the gateway."""
    found: dict[str, object] = {}
    for dependency in spec.depends_on:
        other = project.service(dependency.service)
        if other is None:
            continue
        if other.url is not None or other.port is not None or not other.routes or project.gateway is None:
            found[other.name] = (other.url, other.host, other.port, other.discover)
        else:
            found[other.name] = (project.gateway.host, project.gateway.port, other.routes[0])
    return found
