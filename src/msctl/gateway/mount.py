"""The gateway as an aiohttp application, for somebody's own aiohttp server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from aiohttp import web

from msctl.clock import SystemClock
from msctl.discovery.registry import Registry
from msctl.errors import ConfigError
from msctl.gateway.app import Gateway
from msctl.hosting.aiohttp_mount import mounted
from msctl.model.endpoint import Endpoint
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import RouteSpec


def application(
    upstreams: Mapping[str, str | Sequence[str]],
    *,
    routes: Sequence[RouteSpec] | None = None,
    spec: GatewaySpec | None = None,
) -> web.Application:
    """Return an application that forwards requests to HTTP services.

    `upstreams` gives each service's URL, or the URLs of its instances, by its name. Without `routes` a
    service has the path prefix of its name: `application({"users": "http://localhost:8081"})` forwards
    /users and everything below it. The application answers for any host; on a server that decompresses
    bodies, as aiohttp's own does, they are forwarded decompressed. Raises ConfigError.
    """
    registry = Registry()
    for service, urls in upstreams.items():
        for number, url in enumerate([urls] if isinstance(urls, str) else urls, 1):
            if not url.startswith("http://"):
                raise ConfigError(f"{url!r} is not an http URL", hint="write it as http://HOST:PORT")
            registry.announce(Endpoint(service, f"{service}-{number}", base_url=url.rstrip("/")))
    if routes is None:
        routes = [RouteSpec(f"/{service}", service) for service in upstreams]
    known = spec or GatewaySpec()
    if known.hosts is None:
        known = replace(known, hosts=("*",))
    gateway = Gateway(known, routes, registry, clock=SystemClock(asyncio.sleep))
    made = mounted(gateway.handle)

    async def start(_: web.Application) -> None:
        await gateway.startup()

    async def drain(_: web.Application) -> None:
        await gateway.drain(known.drain_timeout)

    async def clean(_: web.Application) -> None:
        await gateway.cleanup()

    made.on_startup.append(start)
    made.on_shutdown.append(drain)
    made.on_cleanup.append(clean)
    return made
