"""The broker that a stack uses, by mode: one that is there already, one in this process, a RabbitMQ
of its own, or the course's container.

Services reach it through its URL alone; what differs by mode is who starts and stops it, and how
much `status` can tell. The embedded server is handed in by the composition root.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from msctl import ports
from msctl.amqp.probe import speaks_amqp
from msctl.amqp.url import redact
from msctl.brokers.docker import DockerBroker
from msctl.brokers.external_queues import ExternalQueues
from msctl.brokers.local_rabbitmq import RabbitNode, RabbitSettings
from msctl.clock import Clock
from msctl.errors import BrokerError, ConfigError
from msctl.model.address import Address, is_loopback
from msctl.model.project import BrokerSpec
from msctl.model.snapshots import BrokerMode, BrokerSnapshot, QueueLook, QueueSnapshot, State

AMQP_PORT = 5672
PROBE_EVERY = 2.0
"""Seconds for which an answer is kept, so that a watched status does not knock at every frame."""

LogFunction = Callable[[str, str], None]


class Broker(Protocol):
    """What the stack asks of its broker, whatever the mode."""

    @property
    def url(self) -> str:
        """Where services and the CLI find it; holds the password."""
        ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def snapshot(self) -> BrokerSnapshot: ...

    def browse(self, queue: str) -> QueueLook | None:
        """What waits at the head of a queue of the embedded broker, untouched; None where the queues
        are elsewhere and only AMQP gets at them."""
        ...

    def purge(self, queue: str) -> int:
        """Drop what is ready in a queue of the embedded broker; returns how many."""
        ...

    def delete(self, queue: str) -> int:
        """Delete a queue of the embedded broker; returns how many messages were ready."""
        ...


class ServerStats(Protocol):
    """What an embedded server tells of itself."""

    @property
    def connections(self) -> int: ...

    @property
    def queues(self) -> tuple[QueueSnapshot, ...]: ...


class EmbeddedServer(Protocol):
    """The AMQP server in this process, as broker/server.py has it."""

    async def start(self, host: str, port: int) -> tuple[str, int]: ...

    async def stop(self) -> None: ...

    def snapshot(self) -> ServerStats: ...

    def browse(self, queue: str) -> QueueLook: ...

    def purge(self, queue: str) -> int: ...

    def delete(self, queue: str) -> int: ...


ServerFactory = Callable[[Mapping[str, str], str], EmbeddedServer]
"""Makes an embedded server for these users (name to password) and this virtual host."""


def make_broker(
    spec: BrokerSpec, folder: Path, *, clock: Clock, log: LogFunction, embedded: ServerFactory
) -> Broker:
    """The broker that `spec` asks for; a private RabbitMQ keeps its files below `folder`."""
    match spec.mode:
        case BrokerMode.EXTERNAL:
            return ExternalBroker(spec, clock=clock)
        case BrokerMode.LOCAL:
            return LocalBroker(spec, folder / "rabbitmq", log=log)
        case BrokerMode.EMBEDDED:
            return EmbeddedBroker(spec, embedded)
        case BrokerMode.DOCKER:
            return DockerBroker(spec, log=log)
        case BrokerMode.AUTO:
            return AutoBroker(spec, clock=clock, log=log, embedded=embedded)


class ExternalBroker(ExternalQueues):
    """A broker that somebody else runs; we only look whether it answers."""

    def __init__(self, spec: BrokerSpec, *, clock: Clock) -> None:
        self._spec = spec
        self._clock = clock
        self._answer: tuple[float, bool] | None = None

    @property
    def url(self) -> str:
        return self._spec.url

    async def start(self) -> None:
        """Nothing to start: a broker that is away is waited for by those who need it."""

    async def stop(self) -> None:
        """Nothing of ours to stop."""

    async def snapshot(self) -> BrokerSnapshot:
        reachable = await self._reachable()
        return BrokerSnapshot(
            mode=BrokerMode.EXTERNAL,
            state=State.READY if reachable else State.UNHEALTHY,
            url=redact(self.url),
            reason="" if reachable else "nothing that speaks AMQP answers there",
        )

    async def _reachable(self) -> bool:
        now = self._clock.monotonic()
        if self._answer is None or now - self._answer[0] >= PROBE_EVERY:
            self._answer = (now, await speaks_amqp(self.url))
        return self._answer[1]


class EmbeddedBroker:
    """An AMQP server in the stack's own process; its queues are in memory and end with it."""

    def __init__(self, spec: BrokerSpec, factory: ServerFactory) -> None:
        parts = urlsplit(spec.url)
        self._parts = parts
        self._host = parts.hostname or "localhost"
        self._port = AMQP_PORT if parts.port is None else parts.port
        user, password = unquote(parts.username or "guest"), unquote(parts.password or "guest")
        if not is_loopback(self._host) and (user, password) == ("guest", "guest"):
            raise ConfigError(
                f"broker.url: an embedded broker on {self._host} would let anybody in as guest",
                hint="put a user and a password of your own into broker.url, or use localhost",
            )
        if parts.scheme == "amqps":
            raise ConfigError(
                "broker.url: the embedded broker does not speak TLS", hint="write amqp:// instead of amqps://"
            )
        self._server = factory({user: password}, _virtual_host(parts))
        self._state = State.STOPPED
        self._bound = (self._host, self._port)

    @property
    def url(self) -> str:
        return self._parts._replace(
            netloc=self._parts.netloc.removesuffix(f":{self._parts.port}") + f":{self._bound[1]}"
        ).geturl()

    async def start(self) -> None:
        host = "127.0.0.1" if self._host == "localhost" else self._host
        try:
            self._bound = await self._server.start(host, self._port)
        except OSError as error:
            self._state = State.FATAL
            if error.errno == errno.EADDRINUSE:
                raise ports.taken(Address(host, self._port), "broker") from error
            raise BrokerError(
                f"the embedded broker cannot listen on {host}:{self._port}: {error.strerror or error}",
                hint="put another address into broker.url",
            ) from error
        self._state = State.READY

    async def stop(self) -> None:
        await self._server.stop()
        self._state = State.STOPPED

    async def snapshot(self) -> BrokerSnapshot:
        figures = self._server.snapshot()
        return BrokerSnapshot(
            mode=BrokerMode.EMBEDDED,
            state=self._state,
            url=redact(self.url),
            connections=figures.connections,
            queues=figures.queues,
        )

    def browse(self, queue: str) -> QueueLook:
        return self._server.browse(queue)

    def purge(self, queue: str) -> int:
        return self._server.purge(queue)

    def delete(self, queue: str) -> int:
        return self._server.delete(queue)


class AutoBroker:
    """What is there, if something that speaks AMQP answers at the URL; else one of our own there.

    Decided anew at each start; before the first one it counts as external.
    """

    def __init__(self, spec: BrokerSpec, *, clock: Clock, log: LogFunction, embedded: ServerFactory) -> None:
        self._spec = spec
        self._log = log
        self._embedded = embedded
        self._external = ExternalBroker(spec, clock=clock)
        self._chosen: Broker = self._external

    @property
    def url(self) -> str:
        return self._chosen.url

    async def start(self) -> None:
        """Raises PortTakenError for a local port that something else holds, and BrokerError for
        an address elsewhere where no broker answers."""
        where = redact(self._spec.url)
        if await speaks_amqp(self._spec.url):
            self._log("info", f"using the broker that answers at {where}")
            self._chosen = self._external
            return
        host = urlsplit(self._spec.url).hostname or "localhost"
        if not is_loopback(host):
            raise BrokerError(
                f"no broker answers at {where}, and that is not this machine, so none can be embedded there",
                hint='start it, or set [broker] mode = "external" to go on without it',
            )
        self._chosen = EmbeddedBroker(self._spec, self._embedded)
        await self._chosen.start()
        self._log("info", f"no broker answered at {where}: serving AMQP there from this process, in memory")

    async def stop(self) -> None:
        await self._chosen.stop()

    async def snapshot(self) -> BrokerSnapshot:
        return await self._chosen.snapshot()

    def browse(self, queue: str) -> QueueLook | None:
        return self._chosen.browse(queue)

    def purge(self, queue: str) -> int:
        return self._chosen.purge(queue)

    def delete(self, queue: str) -> int:
        return self._chosen.delete(queue)


class LocalBroker(ExternalQueues):
    """A private `rabbitmq-server` node, a child of the stack."""

    def __init__(self, spec: BrokerSpec, folder: Path, *, log: LogFunction) -> None:
        parts = urlsplit(spec.url)
        self._node = RabbitNode(
            RabbitSettings(
                host=parts.hostname or "127.0.0.1",
                port=AMQP_PORT if parts.port is None else parts.port,
                folder=folder,
                user=unquote(parts.username or "guest"),
                password=unquote(parts.password or "guest"),
            ),
            log=log,
        )
        self._url = spec.url
        self._state = State.STOPPED

    @property
    def url(self) -> str:
        return self._url

    async def start(self) -> None:
        self._state = State.STARTING
        try:
            self._url = await self._node.start()
        except BaseException:
            self._state = State.FATAL
            raise
        self._state = State.READY

    async def stop(self) -> None:
        if self._state is State.STOPPED:
            return
        self._state = State.STOPPING
        await self._node.stop()
        self._state = State.STOPPED

    async def snapshot(self) -> BrokerSnapshot:
        state, reason = self._state, ""
        if state is State.READY and not await speaks_amqp(self._url):
            state, reason = State.UNHEALTHY, "the node does not answer"
        return BrokerSnapshot(
            mode=BrokerMode.LOCAL, state=state, url=redact(self._url), reason=reason, pid=self._node.pid
        )


def _virtual_host(parts: SplitResult) -> str:
    """`/` for no path or an empty one, else what is behind the first slash, unquoted (AMQP URI rules)."""
    return unquote(parts.path[1:]) or "/"
