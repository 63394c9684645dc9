"""Service addresses: one address of a service for those that depend on it, whatever instances it has.

A dependent of a replicated service gets `$NAME_URL` of a listener in the stack, behind which a gateway
with one route balances, retries, breaks circuits and traces as the project's own gateway does. The
address outlives restarts and scaling of the service. `[gateway] service_addresses` says which services
have one: those with several configured replicas, all that others depend on, or none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from msctl import ports
from msctl.errors import PortTakenError
from msctl.gateway.app import Gateway
from msctl.http.listener import Listener, Tenant
from msctl.model.address import LOOPBACK, Address
from msctl.model.gateway_spec import GatewaySpec, ServiceAddresses
from msctl.model.project import Project
from msctl.model.route_spec import RouteSpec
from msctl.model.service_spec import ServiceSpec
from msctl.model.services import is_balanced
from msctl.model.snapshots import GATEWAY, Kind, TargetSnapshot

CLOSE_S = 1.0
"""Seconds that open requests have when an address closes; the services behind it are stopped by then."""

LOOPBACK_NETWORKS = ("127.0.0.0/8", "::1/128")

MakeGateway = Callable[[GatewaySpec, list[RouteSpec], Project], Gateway]


def addressed(project: Project) -> tuple[ServiceSpec, ...]:
    """The services of the project that have a service address."""
    mode = (project.gateway or GatewaySpec()).service_addresses
    needed = {dependency.service for spec in project.services for dependency in spec.depends_on}
    return tuple(
        spec
        for spec in project.services
        if spec.name in needed
        and spec.name != GATEWAY
        and (spec.kind is not Kind.REMOTE or is_balanced(spec))
        and (
            mode is ServiceAddresses.ALL
            or (mode is ServiceAddresses.REPLICATED and (spec.replicas > 1 or is_balanced(spec)))
        )
    )


@dataclass(frozen=True, slots=True)
class _Open:
    """An address in use."""

    listener: Listener
    gateway: Gateway
    tenant: Tenant


class AddressBook:
    """The service addresses of a running project."""

    def __init__(self, make: MakeGateway) -> None:
        self._make = make
        self._listeners: dict[str, Listener] = {}
        self._open: dict[str, _Open] = {}

    def locate(self, service: str) -> Address | None:
        """The service's address, if it has one."""
        listener = self._listeners.get(service)
        return None if listener is None else listener.address

    def targets(self) -> tuple[TargetSnapshot, ...]:
        """The instances behind all addresses, as their gateways see them."""
        return tuple(target for one in self._open.values() for target in one.gateway.targets())

    def reserve(self, project: Project) -> None:
        """Bind the addresses of the project's services; those that are bound stay as they are."""
        for spec in addressed(project):
            if spec.name not in self._listeners:
                self._listeners[spec.name] = _bound(project, spec.name)

    async def open(self, project: Project) -> None:
        """Serve at the reserved addresses by the rules of `project`, and close the others."""
        self.reserve(project)
        names = {spec.name for spec in addressed(project)}
        for name in [name for name in self._listeners if name not in names]:
            await self._close(name)
        rules = _rules(project)
        for name in names:
            routes = [RouteSpec("/", name)]
            if (one := self._open.get(name)) is not None:
                one.gateway.reconfigure(rules, routes, {spec.name: spec.policy for spec in project.services})
                continue
            gateway = self._make(rules, routes, project)
            await gateway.startup()
            one = _Open(self._listeners[name], gateway, Tenant(name, gateway.handle))
            try:
                await one.listener.attach(one.tenant)
            except PortTakenError:  # another program has bound the port too, and listened first
                one = replace(one, listener=_listener(0, name))
                self._listeners[name] = one.listener
                await one.listener.attach(one.tenant)
            self._open[name] = one

    async def close(self) -> None:
        """Close all addresses."""
        await asyncio.gather(*(self._close(name) for name in list(self._listeners)))

    async def _close(self, name: str) -> None:
        listener = self._listeners.pop(name)
        one = self._open.pop(name, None)
        if one is None:
            listener.release()
            return
        listener.detach(one.tenant)
        await listener.finish(name, CLOSE_S)
        await one.gateway.cleanup()


def _rules(project: Project) -> GatewaySpec:
    """The gateway's rules without what belongs to its own listener.

    Its callers are services of the stack: what they say about the client of theirs reaches the service, as it
    does where they call an instance directly.
    """
    spec = project.gateway or GatewaySpec()
    trusted = (*spec.trusted_peers, *LOOPBACK_NETWORKS)
    return replace(spec, ready_path=None, openapi=None, trusted_peers=trusted)


def _bound(project: Project, service: str) -> Listener:
    """A bound listener; the same service of the same folder gets the same port again where it is free."""
    try:
        return _listener(ports.choose(LOOPBACK, f"{project.root}/{project.name}/{service}/address"), service)
    except PortTakenError:  # another program was quicker
        return _listener(0, service)


def _listener(port: int, service: str) -> Listener:
    listener = Listener(Address(LOOPBACK, port), None)
    listener.reserve(service)
    return listener
