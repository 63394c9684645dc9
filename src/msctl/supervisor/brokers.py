"""The broker that a stack uses, by mode: one that is there already, or a RabbitMQ of its own.

Services reach it through its URL alone; what differs by mode is who starts and stops it, and how
much `status` can tell.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from msctl.clock import Clock
from msctl.errors import ConfigError
from msctl.model import BrokerMode, BrokerSnapshot, BrokerSpec, State
from msctl.supervisor.rabbitmq import RabbitNode, RabbitSettings

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
PROBE_TIMEOUT = 1.0
PROBE_EVERY = 2.0
"""Seconds for which an answer is kept, so that a watched status does not knock at every frame."""

Log = Callable[[str, str], None]


class Broker(Protocol):
    """What the stack asks of its broker, whatever the mode."""

    @property
    def url(self) -> str:
        """Where services and the CLI find it; holds the password."""
        ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def snapshot(self) -> BrokerSnapshot: ...


def make_broker(spec: BrokerSpec, folder: Path, *, clock: Clock, log: Log) -> Broker:
    """The broker that `spec` asks for; a private node keeps its files below `folder`."""
    if spec.mode is BrokerMode.EXTERNAL:
        return ExternalBroker(spec, clock=clock)
    if spec.mode is BrokerMode.LOCAL:
        return LocalBroker(spec, folder / "rabbitmq", log=log)
    raise ConfigError(
        f"broker.mode: {spec.mode.value!r} is not available", hint="use one of: external, local"
    )


class ExternalBroker:
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


class LocalBroker:
    """A private `rabbitmq-server` node, a child of the stack."""

    def __init__(self, spec: BrokerSpec, folder: Path, *, log: Log) -> None:
        parts = urlsplit(spec.url)
        self._node = RabbitNode(
            RabbitSettings(
                host=parts.hostname or "127.0.0.1",
                port=parts.port or 5672,
                folder=folder,
                user=parts.username or "guest",
                password=parts.password or "guest",
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


def redact(url: str) -> str:
    """`url` without its password, for people to see."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@", 1)))


async def speaks_amqp(url: str, timeout: float = PROBE_TIMEOUT) -> bool:
    """Whether the server at `url` answers the AMQP 0-9-1 header with a method frame on channel 0."""
    parts = urlsplit(url)
    tls = parts.scheme == "amqps"
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(
                parts.hostname or "localhost", parts.port or (5671 if tls else 5672), ssl=tls or None
            )
            try:
                writer.write(PROTOCOL_HEADER)
                return await reader.readexactly(3) == b"\x01\x00\x00"
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError):
        return False
