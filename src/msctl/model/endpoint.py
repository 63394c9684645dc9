"""The endpoint of an instance: an address, or a handler in this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One ready instance. `handler` takes a request in this process, without a network hop;
    where it is None, `base_url` (scheme://host:port, no path) is where to send it.
    `client_max_size` is the limit on bodies that the application behind `handler` was built with."""

    service: str
    instance: str
    base_url: str | None = None
    handler: Handler | None = None
    client_max_size: int = 1024**2
