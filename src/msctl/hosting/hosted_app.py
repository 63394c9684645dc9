"""Hosted applications: what a worker asks of one, whatever its framework."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from msctl.model.exchange import Exchange, Handler
from msctl.model.service_context import ServiceContext
from msctl.model.views import MessagingObserver


class HostedApp(Protocol):
    """An application that can be served in this process."""

    async def startup(self) -> None:
        """Prepare for requests; an exception is the reason why the service cannot start."""
        ...

    async def handle(self, exchange: Exchange) -> None:
        """Serve an exchange; see model/exchange.py."""
        ...

    async def drain(self, timeout: float) -> None:
        """Refuse new requests; wait up to `timeout` seconds for those in flight, then cancel them."""
        ...

    async def cleanup(self) -> None:
        """Release all resources; called once, also after `startup` raised."""
        ...


HostedFactory = Callable[[ServiceContext], HostedApp | Awaitable[HostedApp]]


class Instrument(Protocol):
    """Wraps the handlers of requests and messages for telemetry."""

    def direct(self, service: str, instance: str, handle: Handler) -> Handler:
        """Wrap the handler behind a service's own listener."""
        ...

    def messages(self, service: str) -> MessagingObserver | None: ...

    def refused(self, service: str, status: int) -> None:
        """The service's listener answered bytes that are no request."""
        ...


class NoInstrument:
    """An Instrument that does nothing."""

    def direct(self, service: str, instance: str, handle: Handler) -> Handler:  # noqa: ARG002 - as above
        return handle

    def messages(self, service: str) -> MessagingObserver | None:  # noqa: ARG002 - as above
        return None

    def refused(self, service: str, status: int) -> None:
        """Count nothing."""
