"""A stack's part in a registry that answers on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msctl.clock import SystemClock
from msctl.discovery.connect import connect
from msctl.discovery.discovery import Discovery
from msctl.discovery.registry import Registry
from msctl.model.broker_spec import BrokerSpec
from msctl.model.endpoint import Endpoint
from msctl.model.project import DiscoverySpec, Project
from msctl.model.registry_url import parse_registry_url
from msctl.model.route_spec import RouteSpec
from msctl.model.service_spec import ServiceSpec
from msctl.secret import Secret

MINE = Endpoint("users", "users-1", base_url="http://127.0.0.1:8081")
USERS = ServiceSpec(
    "users",
    command=("users",),
    host="0.0.0.0",
    port=8081,
    discover=True,
    weight=7,
    routes=(RouteSpec("/users", "users"),),
)


class Stack:
    """One machine's registry and its discovery."""

    def __init__(self, url: str, name: str, *, ttl: float, token: str | None, advertise: str | None) -> None:
        clock = SystemClock(asyncio.sleep)
        spec = DiscoverySpec(
            url, ttl=ttl, token=None if token is None else Secret(token), advertise=advertise
        )
        project = Project(
            "shop",
            None,
            "",
            (USERS, ServiceSpec("orders", discover=True)),
            None,
            BrokerSpec(),
            discovery=spec,
        )
        parsed = parse_registry_url(url)
        self.registry = Registry()
        self.discovery = Discovery(
            project, parsed, connect(project, parsed, None, clock), self.registry, stack=name, clock=clock
        )

    def urls(self, service: str = "users") -> list[str | None]:
        return [endpoint.base_url for endpoint in self.registry.endpoints(service)]

    @property
    def reason(self) -> str:
        return self.discovery.snapshot().reason

    @property
    def state(self) -> str:
        return self.discovery.snapshot().state.value


@asynccontextmanager
async def stack(
    url: str, name: str = "a", *, ttl: float = 2.0, token: str | None = None, advertise: str | None = None
) -> AsyncIterator[Stack]:
    made = Stack(url, name, ttl=ttl, token=token, advertise=advertise)
    made.discovery.start()
    try:
        yield made
    finally:
        await made.discovery.stop()
