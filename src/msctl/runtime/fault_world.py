"""What a fault can be set on in the running stack, gathered for `faults.check`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from msctl.faults.check import RunningService, World, service_of
from msctl.faults.spec import FaultSpec
from msctl.model.address import is_loopback
from msctl.model.broker_url import parse_url
from msctl.model.project import Project
from msctl.model.route_spec import RouteSpec
from msctl.model.services import address_of, probed, runs_here
from msctl.model.snapshots import BrokerMode, BrokerSnapshot, Kind, ServiceSnapshot
from msctl.runtime.embedded_host import EmbeddedHost
from msctl.runtime.service_addresses import AddressBook

FAKETIME = (
    "/usr/lib/*/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
    "/usr/local/lib/faketime/libfaketime.so.1",
    "/opt/homebrew/lib/faketime/libfaketime.1.dylib",
)


def faketime_library() -> str | None:
    """The installed libfaketime, None without one."""
    for pattern in FAKETIME:
        found = sorted(Path("/").glob(pattern.lstrip("/")))
        if found:
            return str(found[0])
    return None


class FaultWorld:
    """Looks at the parts of a stack."""

    def __init__(
        self,
        *,
        project: Callable[[], Project],
        services: Callable[[], Sequence[ServiceSnapshot]],
        routes: Callable[[], Sequence[RouteSpec] | None],
        addresses: AddressBook,
        broker: Callable[[], Awaitable[BrokerSnapshot]],
        embedded: EmbeddedHost,
    ) -> None:
        self._project = project
        self._services = services
        self._routes = routes
        self._addresses = addresses
        self._broker = broker
        self._embedded = embedded

    async def see(self) -> World:
        """What there is now."""
        broker = await self._broker()
        return World(
            services=self._running(),
            routes=self._leading(),
            broker=broker.mode,
            queues=[queue.name for queue in broker.queues or ()],
            exchanges=self._embedded.exchanges(),
            connections=self._embedded.connections(),
            exposed=self._exposed(broker),
            faketime=faketime_library(),
        )

    def notes(self, spec: FaultSpec) -> Sequence[str]:
        """Which requests to a service do not pass the stack, where some do."""
        world = World(self._running(), None, BrokerMode.EMBEDDED)
        try:
            name = service_of(spec, world)
        except StopIteration:
            return ()
        snapshot = next(one for one in self._services() if one.name == name)
        service = self._project().service(name)
        if service is None or runs_here(service) or not snapshot.urls:
            return ()
        return (
            f"requests that go straight to {', '.join(snapshot.urls)} do not pass msctl, and are not hit",
        )

    def _leading(self) -> dict[str, bool] | None:
        routes = self._routes()
        if routes is None:
            return None
        leading: dict[str, bool] = {}
        for route in routes:
            passes = route.static is None and route.redirect is None and route.compose is None
            leading[route.path] = leading.get(route.path, False) or passes
        return leading

    def _running(self) -> dict[str, RunningService]:
        project = self._project()
        routed = {name for route in self._routes() or () for name in (route.service, *route.other_services)}
        found: dict[str, RunningService] = {}
        for snapshot in self._services():
            spec = project.service(snapshot.name)
            if spec is None:
                continue
            here = runs_here(spec)
            found[snapshot.name] = RunningService(
                snapshot.kind,
                {one.name: None if here else one.pid for one in snapshot.instances},
                intercepted=(
                    snapshot.name in routed
                    or self._addresses.locate(snapshot.name) is not None
                    or (here and address_of(spec, project) is not None)
                ),
                probed=not here and snapshot.kind is not Kind.REMOTE and probed(spec),
            )
        return found

    def _exposed(self, broker: BrokerSnapshot) -> list[str]:
        """The addresses that other machines reach."""
        project = self._project()
        found = [
            str(address)
            for spec in project.services
            if (address := address_of(spec, project)) is not None and not is_loopback(address.host)
        ]
        if broker.mode is BrokerMode.EMBEDDED:
            url = parse_url(broker.url, any_port=True)
            if not is_loopback(url.host):
                found.append(f"{url.host}:{url.port}")
        return list(dict.fromkeys(found))
