"""The embedded broker of a stack: builds its server, decides who logs in, reloads its files."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from msctl.amqp.management_documents import Documents
from msctl.broker.core.definitions.document import Definitions
from msctl.broker.listeners import TlsListener
from msctl.broker.management.server import ManagementServer
from msctl.broker.management.vhost_documents import vhost_documents
from msctl.broker.server import BrokerServer
from msctl.broker.session.faults import names_of
from msctl.broker.storage.storage import StorageSpec
from msctl.brokers.node_definitions import NodeDefinitions, node_definitions
from msctl.clock import AsyncClock
from msctl.errors import BrokerError, ConfigError
from msctl.model.broker_spec import BrokerSpec
from msctl.model.broker_url import BrokerUrl, parse_url
from msctl.model.project import Project
from msctl.model.snapshots import Durability
from msctl.model.tls_spec import BrokerTlsSpec
from msctl.runtime.definitions_file import read_definitions, read_json
from msctl.secret import Secret
from msctl.tls.authority import Authority, data_folder
from msctl.tls.context import ServerCertificate, ServerTls, broker_endpoint

STACK_USER = "msctl"
"""The user of the stack's own services, `send` and `consume`, where the definitions leave none for them."""


def _ignore(_faults: Sequence[str], _traceparent: str) -> None:
    pass


class EmbeddedHost:
    """Makes the embedded broker of one project; keeps it to reload its definitions."""

    def __init__(
        self,
        project: Project,
        *,
        clock: AsyncClock,
        log: Callable[[str, str], None],
        storage: Callable[[BrokerSpec], StorageSpec],
        page: Callable[[], str | None],
        env: Mapping[str, str],
        touched: Callable[[Sequence[str], str], None] = _ignore,
    ) -> None:
        """`page` is the dashboard's URL, for browsers that open the management API; `touched` is called with
        the faults that hit a message, and its traceparent.

        Raises ConfigError for definitions that cannot be used."""
        self._project = project
        self._clock = clock
        self._log = log
        self._storage = storage
        self._page = page
        self._env = env
        self._server: BrokerServer | None = None
        self._touched = touched
        self._vhost = ""
        self._tls = ServerTls(env, endpoint=broker_endpoint)
        self._tls.use(self._tls.read(project))
        self._definitions = self._read(project)

    def make(self, url: BrokerUrl) -> tuple[BrokerServer, BrokerUrl]:
        """Make the server; return it with `url`, whose user is one that can log in.

        Raises ConfigError if the definitions have another password for the configured user.
        """
        spec = self._project.broker
        url, users = login(url, self._definitions, given=spec.url_given)
        self._vhost = url.vhost
        self._server = BrokerServer(
            clock=self._clock,
            log=self._log,
            users=users,
            vhosts=(url.vhost,),
            memory_limit=spec.memory_limit,
            max_message_size=spec.max_message_size,
            storage=None if spec.durable is Durability.NONE else self._storage(spec),
            definitions=self._definitions,
        )
        self._server.touched = self._touched
        if spec.tls.enabled:
            only = spec.tls.only or url.tls
            port = 0 if url.port == 0 else url.port if url.tls else spec.tls.port
            self._server.tls = TlsListener(port, self._tls.context, only=only)
            if only:
                url = url.changed(port=port, tls=True, query=url.query or self._trust(spec.tls))
        if spec.management:
            self._server.management = ManagementServer(
                self._server, clock=self._clock, port=spec.management_port, page=self._page
            )
        return self._server, url

    def for_node(self, url: BrokerUrl) -> NodeDefinitions | None:
        """The project's definitions for a RabbitMQ that the stack runs at `url`; None if there are none.

        Raises ConfigError if they have another password for the configured user.
        """
        if self._definitions is None:
            return None
        url, users = login(url, self._definitions, given=self._project.broker.url_given)
        return node_definitions(read_json(self._project), url, users)

    def export(self) -> dict[str, Any] | None:
        """The definitions that the broker has now; None if it is not the embedded one."""
        if self._server is None or self._server.address is None:
            return None
        return self._server.export_definitions()

    async def documents(self, find: str) -> Documents | None:
        """What the broker has; None if it is not the embedded one."""
        if self._server is None or self._server.address is None:
            return None
        return await vhost_documents(self._server, self._vhost, find, self._clock)

    @property
    def server(self) -> BrokerServer:
        """The embedded broker's server."""
        if self._server is None:
            raise BrokerError("this stack embeds no broker")
        return self._server

    def exchanges(self) -> list[str]:
        """The names of the embedded broker's exchanges, without the default one."""
        if self._server is None:
            return []
        vhosts = self._server.broker.vhosts.values()
        return [name for vhost in vhosts for name in vhost.routing.exchanges if name]

    def connections(self) -> list[str]:
        """The names of the open connections, and their users'."""
        sessions = () if self._server is None else self._server.sessions
        return [name for session in sessions if session.open for name in names_of(session)]

    def _trust(self, spec: BrokerTlsSpec) -> str:
        """The query of a URL for clients that must trust an authority of the user's, or the local one."""
        file = Authority(data_folder(self._env)).file if spec.dev else spec.ca
        return "" if file is None else f"cafile={quote(str(file))}"

    async def read(self, project: Project) -> tuple[Definitions | None, ServerCertificate | None]:
        """Read definitions and certificate again. Raises ConfigError."""
        certificate = await asyncio.to_thread(self._tls.read, project)
        return await asyncio.to_thread(self._read, project), certificate

    async def use(self, found: tuple[Definitions | None, ServerCertificate | None]) -> bool:
        """Use what was read again; return whether the definitions differ from the present ones."""
        definitions, certificate = found
        if self._tls.use(certificate):
            self._log("info", "the certificate for AMQPS was replaced")
        if definitions is None or self._server is None:
            return False
        if self._definitions is not None and definitions.digest == self._definitions.digest:
            return False
        self._definitions = definitions
        for removed in await self._server.import_definitions(definitions):
            self._log("info", f"{definitions.source}: removed {removed}")
        return True

    def _read(self, project: Project) -> Definitions | None:
        found = read_definitions(project, parse_url(project.broker.url, any_port=True))
        if found is None:
            return None
        definitions, problems = found
        for problem in problems.warnings:
            self._log("warning", f"{definitions.source}: {problem}")
        return definitions


def login(
    url: BrokerUrl, definitions: Definitions | None, *, given: bool
) -> tuple[BrokerUrl, dict[str, Secret]]:
    """The URL with which the stack logs in, and the users to create for it beside those of the definitions.

    Without users in the definitions, the URL's user is created. Otherwise a user of the definitions logs in
    with its password, a user that only the configured URL names is created, and instead of the default
    guest, whom RabbitMQ would not create either, the stack uses a user of its own.
    """
    users = {} if definitions is None else definitions.users
    if not users:
        return url, {url.user: url.password}
    user = users.get(url.user)
    if (
        user is not None
        and user.password is not None
        and user.password.verify(url.password.reveal().encode())
    ):
        return url, {}
    if user is None and given:
        return url, {url.user: url.password}
    if given and definitions is not None:
        raise ConfigError(
            f"broker.url: the password of user {url.user!r} is not the one in {definitions.source}",
            hint="change one of them, or remove url: the stack then uses a user of its own",
        )
    name = STACK_USER
    while name in users:
        name += "-stack"
    password = Secret(secrets.token_urlsafe(24))
    return url.changed(user=name, password=password), {name: password}
