"""The `embedded` broker: an AMQP server in the stack's own process."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Protocol

from msctl import ports
from msctl.errors import BrokerError, ConfigError
from msctl.model.address import Address
from msctl.model.broker_spec import BrokerSpec
from msctl.model.broker_url import BrokerUrl, parse_url
from msctl.model.queue_messages import QueueLook
from msctl.model.snapshots import BrokerMode, BrokerSnapshot, QueueSnapshot, State, StorageSnapshot

MIB = 1024 * 1024
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class ServerStats(Protocol):
    """The statistics of an embedded server."""

    @property
    def connections(self) -> int: ...

    @property
    def blocked(self) -> bool: ...

    @property
    def alarms(self) -> Mapping[str, str]: ...

    @property
    def management(self) -> str | None: ...

    @property
    def memory_bytes(self) -> int: ...

    @property
    def memory_limit(self) -> int: ...

    @property
    def storage(self) -> StorageSnapshot | None: ...


class EmbeddedServer(Protocol):
    """The AMQP server in this process (`broker.server.BrokerServer`)."""

    async def start(self, host: str, port: int) -> tuple[str, int]: ...

    async def stop(self) -> None: ...

    def stats(self) -> ServerStats: ...

    async def queues(self) -> tuple[QueueSnapshot, ...]: ...

    def browse(self, queue: str) -> QueueLook: ...

    def purge(self, queue: str) -> int: ...

    def delete(self, queue: str) -> int: ...


ServerFactory = Callable[[BrokerUrl], tuple[EmbeddedServer, BrokerUrl]]
"""Makes an embedded server with the URL's user and virtual host; returns the URL to log in with."""


class EmbeddedBroker:
    """An AMQP server in the stack's own process. What is durable outlives it in its log."""

    def __init__(self, spec: BrokerSpec, factory: ServerFactory) -> None:
        """Raises ConfigError for a URL that cannot be served."""
        url = self._url = parse_url(spec.url, any_port=True)
        self._host = url.host
        if self._host not in LOOPBACK_HOSTS and url.user == "guest":
            raise ConfigError(
                "broker.url: the user guest can log in from this machine only, and the embedded broker is to "
                f"listen on {self._host}",
                hint="set another user and a password in broker.url, or use localhost",
            )
        if url.tls and not spec.tls.enabled:
            raise ConfigError(
                "broker.url: amqps:// needs a certificate for the embedded broker",
                hint="set cert and key, or dev = true, in [broker.tls]; or use amqp://",
            )
        self._server, self._url = factory(url)
        self._state = State.STOPPED

    @property
    def url(self) -> str:
        return self._url.text

    async def start(self) -> None:
        """Raises PortTakenError, and BrokerError for an address that cannot be bound."""
        host = "127.0.0.1" if self._host == "localhost" else self._host
        try:
            _, port = await self._server.start(host, self._url.port)
        except OSError as error:
            self._state = State.FATAL
            if error.errno == errno.EADDRINUSE:
                raise ports.taken(Address(host, self._url.port), "broker") from error
            raise BrokerError(
                f"the embedded broker cannot listen on {host}:{self._url.port}: {error.strerror or error}",
                hint="set another address in broker.url",
            ) from error
        if port != self._url.port:
            self._url = self._url.changed(port=port)
        self._state = State.READY

    async def stop(self) -> None:
        await self._server.stop()
        self._state = State.STOPPED

    async def snapshot(self) -> BrokerSnapshot:
        queues = await self._server.queues()
        stats = self._server.stats()
        return BrokerSnapshot(
            mode=BrokerMode.EMBEDDED,
            state=self._state,
            url=self._url.shown,
            reason=_blocked_reason(stats),
            connections=stats.connections,
            queues=queues,
            blocked=stats.blocked,
            management=stats.management,
            memory_bytes=stats.memory_bytes,
            memory_limit=stats.memory_limit,
            storage=stats.storage,
        )

    def browse(self, queue: str) -> QueueLook:
        return self._server.browse(queue)

    def purge(self, queue: str) -> int:
        return self._server.purge(queue)

    def delete(self, queue: str) -> int:
        return self._server.delete(queue)


def _blocked_reason(stats: ServerStats) -> str:
    """Which alarms block publishers, and why; empty if none does."""
    used, limit = stats.memory_bytes / MIB, stats.memory_limit / MIB
    reasons = dict(stats.alarms)
    if "memory" in reasons:
        reasons["memory"] = f"{used:.0f} of {limit:.0f} MiB"
    names = " and ".join(reasons)
    shown = "; ".join(reasons.values())
    return f"{names} alarm: publishers are blocked ({shown})" if reasons else ""
