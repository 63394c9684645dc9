"""The registry of a stack's project, and the stack's services together with their instances elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from secrets import token_hex

from msctl.clock import AsyncClock, SystemClock
from msctl.discovery.backend import Backend
from msctl.discovery.connect import connect
from msctl.discovery.discovery import Discovery
from msctl.discovery.record import Record
from msctl.discovery.registry import Registry
from msctl.discovery.registry_http import RegistryError
from msctl.model.project import Project
from msctl.model.registry_url import RegistryUrl, parse_registry_url
from msctl.model.route_policies import UpstreamTlsSpec
from msctl.model.snapshots import InstanceSnapshot, ServiceSnapshot, State


def make_discovery(
    project: Project, registry: Registry, clock: AsyncClock, *, announces: bool = True
) -> Discovery | None:
    """Return what keeps `registry` in step with the project's, if it has one. Raises ConfigError."""
    if project.discovery.url is None:
        return None
    url = parse_registry_url(project.discovery.url)
    backend = _backend(project, url, clock)
    return Discovery(project, url, backend, registry, stack=token_hex(8), clock=clock, announces=announces)


async def registry_problem(project: Project) -> str | None:
    """Return why the project's registry cannot be used, as the end of a sentence. Raises ConfigError."""
    url = parse_registry_url(project.discovery.url or "")
    backend = _backend(project, url, SystemClock(asyncio.sleep))
    try:
        await backend.open()
        await backend.leave()
    except RegistryError as error:
        return str(error)
    finally:
        await backend.close()
    return None


def _backend(project: Project, url: RegistryUrl, clock: AsyncClock) -> Backend:
    tls = None
    if url.tls:
        from msctl.tls.upstream import client_context

        spec = project.discovery
        tls = client_context(UpstreamTlsSpec(ca=spec.ca, cert=spec.cert, key=spec.key), "discovery")
    return connect(project, url, tls, clock)


def with_discovered(
    services: Sequence[ServiceSnapshot], discovery: Discovery | None
) -> tuple[ServiceSnapshot, ...]:
    """The services, with their instances on other machines."""
    if discovery is None:
        return tuple(services)
    return tuple(_joined(one, discovery.records(one.name), discovery.origin) for one in services)


def _joined(service: ServiceSnapshot, records: Sequence[Record], origin: str) -> ServiceSnapshot:
    if not records:
        return service
    found = tuple(
        InstanceSnapshot(record.name, State.READY, address=record.address, origin=origin)
        for record in records
    )
    here = tuple(one for one in service.instances if one.address or one.pid)
    state, reason = service.state, service.reason
    if not here and state in (State.STOPPED, State.READY):
        # Nobody has started it here, and it takes requests.
        state, reason = State.READY, ""
    else:
        here = service.instances
    count = f"{len(found)} instance{'' if len(found) == 1 else 's'} found in {origin}"
    return replace(
        service,
        state=state,
        reason="; ".join(filter(None, (reason, count))),
        addresses=(*service.addresses, *(record.address for record in records)),
        instances=(*here, *found),
    )
