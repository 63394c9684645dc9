"""The interface of an upstream: one instance, hosted in this process or reached over a socket.

An `Upstream` serves a `GatewayExchange`. Its errors tell the proxy whether the request was sent and whether
a response had begun.
"""

from __future__ import annotations

from typing import Protocol

from msctl.gateway.request.gateway_exchange import GatewayExchange


class Upstream(Protocol):
    """One instance of a service."""

    address: str

    @property
    def pool_open(self) -> int: ...

    @property
    def pool_waiting(self) -> int: ...

    async def send(self, out: GatewayExchange, *, fresh: bool = False) -> None:
        """Send `out` to the instance and its response to the client.

        Raises AttemptError before the response started, BrokenResponseError after, RequestError if the
        request itself is at fault, ClientGoneError. `fresh` asks for a new connection.
        """
        ...

    def reconfigure(self, *, pool_size: int, pool_idle: float, retry_body: int) -> None:
        """Apply new limits."""
        ...

    async def drain(self) -> None:
        """Close WebSockets with code 1001."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
