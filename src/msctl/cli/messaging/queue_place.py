"""Where the queues are that `msctl queues` works on: the running stack's broker, or the one of a URL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from msctl.cli.messaging.broker_url import resolve_url
from msctl.cli.options.global_options import GlobalOptions
from msctl.control.paths import is_locked
from msctl.model.snapshots import BrokerMode, BrokerSnapshot

if TYPE_CHECKING:
    from msctl.amqp.connection import Connection
    from msctl.amqp.management_client import ManagementClient
    from msctl.control.client import ControlClient

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """The broker's URL, with its password; and the running stack whose broker it is, if it is one's."""

    url: str
    stack: ControlClient | None = None
    broker: BrokerSnapshot | None = None

    @classmethod
    def find(cls, url: str | None, options: GlobalOptions) -> QueuePlace:
        """Raises NotRunningError where neither a URL nor a stack names a broker."""
        _, paths = options.identify()
        if is_locked(paths):
            own = resolve_url(None, options)
            if url in (None, own):
                client = options.client()
                return cls(own, client, client.snapshot().broker)
        return cls(resolve_url(url, options))

    @property
    def embedded_in(self) -> ControlClient | None:
        """The stack whose process the broker runs in."""
        is_embedded = self.broker is not None and self.broker.mode is BrokerMode.EMBEDDED
        return self.stack if is_embedded else None

    def management(self, at: str | None) -> ManagementClient:
        """The management API of the broker, at a URL if one is given. Raises BrokerError."""
        from msctl.amqp.management_client import ManagementClient
        from msctl.amqp.url import parse_url

        url = parse_url(self.url)
        if at is None and self.broker is not None:
            at = self.broker.management
        if at is not None:
            return ManagementClient(at, url)
        return ManagementClient.beside(url)

    def over_amqp(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` on a connection to the broker. Raises BrokerError and TimedOutError."""
        from msctl.amqp.connection import Connection, closing
        from msctl.amqp.url import parse_url
        from msctl.cli.messaging.streams import run

        async def connected() -> T:
            async with closing(await Connection.open(parse_url(self.url), name="msctl queues")) as connection:
                return await work(connection)

        return run(connected())
