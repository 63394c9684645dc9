"""The broker of a stack by mode: external, embedded, a local RabbitMQ, a container, or `auto`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from msctl.amqp.probe import AmqpServer, amqp_server, probe, speaks_amqp
from msctl.brokers.base import LogFunction, StackBroker
from msctl.brokers.docker import DockerBroker
from msctl.brokers.embedded import LOOPBACK_HOSTS, EmbeddedBroker, ServerFactory
from msctl.brokers.external import ExternalBroker, ExternalQueues
from msctl.brokers.local_rabbitmq import RabbitNode
from msctl.brokers.node_definitions import ReadDefinitions
from msctl.brokers.port_owner import check_owner
from msctl.brokers.rabbitmq_files import RabbitSettings
from msctl.clock import Clock
from msctl.errors import BrokerError, PortTakenError
from msctl.model.broker_spec import BrokerSpec
from msctl.model.broker_url import parse_url, redact
from msctl.model.queue_messages import QueueLook
from msctl.model.services import has_default_broker_url
from msctl.model.snapshots import BrokerMode, BrokerSnapshot, State

STARTING_PROBE_S = 5.0
"""Time for the first answer of the server that took the port meanwhile: on a busy machine it still starts."""


def make_broker(
    spec: BrokerSpec,
    folder: Path,
    *,
    clock: Clock,
    log: LogFunction,
    embedded: ServerFactory,
    definitions: ReadDefinitions,
) -> StackBroker:
    """The broker for `spec`; a RabbitMQ that the stack runs has its files below `folder`.

    Raises ConfigError for definitions that cannot be used.
    """
    if spec.mode is BrokerMode.EXTERNAL:
        _warn_of_unused_definitions(spec, log)
    match spec.mode:
        case BrokerMode.EXTERNAL:
            return ExternalBroker(spec, clock=clock)
        case BrokerMode.LOCAL:
            return LocalBroker(spec, folder / "rabbitmq", log=log, definitions=definitions)
        case BrokerMode.EMBEDDED:
            return EmbeddedBroker(spec, embedded)
        case BrokerMode.DOCKER:
            return DockerBroker(spec, folder / "docker", log=log, definitions=definitions)
        case BrokerMode.AUTO:
            return AutoBroker(spec, clock=clock, log=log, embedded=embedded)


def _warn_of_unused_definitions(spec: BrokerSpec, log: LogFunction) -> None:
    if spec.definitions is not None:
        log(
            "warning",
            f"{spec.definitions.name} is not loaded: this broker runs elsewhere. For a RabbitMQ: "
            "rabbitmqctl import_definitions FILE",
        )


class AutoBroker:
    """The AMQP server that answers at the URL, else an embedded one at the same address.

    At the default URL the embedded broker of another stack is not used: it ends with that stack, and the
    projects would receive each other's messages. This stack then embeds one on a free port.

    Decides at each start. Before the first start it counts as external.
    """

    def __init__(self, spec: BrokerSpec, *, clock: Clock, log: LogFunction, embedded: ServerFactory) -> None:
        self._spec = spec
        self._log = log
        self._embedded = embedded
        self._external = ExternalBroker(spec, clock=clock)
        self._chosen: StackBroker = self._external
        self._moved = ""

    @property
    def url(self) -> str:
        return self._chosen.url

    async def start(self) -> None:
        """Raises PortTakenError for a local port that another program holds, and BrokerError for another
        machine where no broker answers, or for a server of another user at the default URL."""
        address = redact(self._spec.url)
        self._moved = ""
        server, problem = await probe(self._spec.url)
        if server is AmqpServer.EMBEDDED and self._is_others():
            await self._embed_elsewhere(address)
            return
        if server is not AmqpServer.NONE:
            owner = await self._check_owner(address)
            self._log("info", f"using the broker that answers at {address}{owner}")
            _warn_of_unused_definitions(self._spec, self._log)
            self._chosen = self._external
            return
        if parse_url(self._spec.url, any_port=True).host not in LOOPBACK_HOSTS:
            raise BrokerError(
                f"no broker answers at {address} ({problem}), and a broker cannot be embedded on another "
                "machine",
                hint='start it, or set [broker] mode = "external" to start without it',
            )
        self._chosen = EmbeddedBroker(self._spec, self._embedded)
        try:
            await self._chosen.start()
        except PortTakenError:
            # Another stack may have started its own meanwhile.
            if not self._is_others():
                raise
            if await amqp_server(self._spec.url, STARTING_PROBE_S) is not AmqpServer.EMBEDDED:
                raise
            await self._embed_elsewhere(address)
            return
        self._log("info", f"no broker answers at {address}: embedded one at {redact(self._chosen.url)}")

    def _is_others(self) -> bool:
        host = parse_url(self._spec.url, any_port=True).host
        return has_default_broker_url(self._spec) and host in LOOPBACK_HOSTS

    async def _embed_elsewhere(self, address: str) -> None:
        url = parse_url(self._spec.url)
        free = replace(self._spec, url=url.changed(port=0).text)
        self._chosen = EmbeddedBroker(free, self._embedded)
        await self._chosen.start()
        self._moved = f"port {url.port} has another project's broker"
        self._log(
            "info",
            f"{address} has another project's broker: embedded one at {redact(self._chosen.url)}",
        )

    async def _check_owner(self, address: str) -> str:
        """Who runs the server at the default URL. Raises BrokerError for a user that is not trusted.

        A configured URL is the user's choice and used without a check.
        """
        if self._spec.url_given:
            return ""
        port = parse_url(self._spec.url).port
        return f", run by {await asyncio.to_thread(check_owner, port, address)}"

    async def stop(self) -> None:
        await self._chosen.stop()

    async def snapshot(self) -> BrokerSnapshot:
        snapshot = await self._chosen.snapshot()
        return replace(snapshot, reason=snapshot.reason or self._moved)

    def browse(self, queue: str) -> QueueLook | None:
        return self._chosen.browse(queue)

    def purge(self, queue: str) -> int:
        return self._chosen.purge(queue)

    def delete(self, queue: str) -> int:
        return self._chosen.delete(queue)


class LocalBroker(ExternalQueues):
    """A private `rabbitmq-server` node, run as a child of the stack."""

    def __init__(
        self, spec: BrokerSpec, folder: Path, *, log: LogFunction, definitions: ReadDefinitions
    ) -> None:
        """Raises ConfigError for definitions that cannot be used."""
        url = parse_url(spec.url, any_port=True)
        found = definitions(url)
        if found is not None:
            url = found.url
        self._node = RabbitNode(
            RabbitSettings(
                host=url.host,
                port=url.port,
                folder=folder,
                user=url.user,
                password=url.password.reveal(),
                vhost=url.vhost,
                definitions=None if found is None else found.document,
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
