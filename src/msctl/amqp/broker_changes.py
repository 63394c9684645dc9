"""Changes that the page asks of a broker, over AMQP: the same for the embedded broker and any other."""

from __future__ import annotations

from msctl.amqp import queue_changes
from msctl.amqp.connection import Connection
from msctl.amqp.methods import (
    ExchangeBind,
    ExchangeDeclare,
    ExchangeDelete,
    ExchangeUnbind,
    QueueBind,
    QueueUnbind,
)
from msctl.amqp.queue_changes import ask
from msctl.errors import UsageError
from msctl.model.messaging import (
    Bind,
    BrokerChange,
    ChangeResult,
    DeclareExchange,
    DeclareQueue,
    DeleteExchange,
    DeleteQueue,
    MoveMessages,
    PurgeQueue,
    RequeueDead,
    Unbind,
)


async def apply(connection: Connection, change: BrokerChange) -> ChangeResult:
    """Raises BrokerRefusedError, and UsageError for a name that is missing."""
    match change:
        case DeclareQueue():
            name = _named(change.name, "queue")
            await queue_changes.declare(connection, name, durable=change.durable, arguments=change.arguments)
        case DeleteQueue():
            return ChangeResult(await queue_changes.delete(connection, _named(change.name, "queue")))
        case PurgeQueue():
            return ChangeResult(await queue_changes.purge(connection, _named(change.name, "queue")))
        case DeclareExchange():
            await ask(
                connection,
                ExchangeDeclare(
                    exchange=_named(change.name, "exchange"),
                    exchange_type=change.type,
                    durable=change.durable,
                    arguments=dict(change.arguments),
                ),
            )
        case DeleteExchange():
            await ask(connection, ExchangeDelete(exchange=_named(change.name, "exchange")))
        case Bind() | Unbind():
            await ask(connection, _binding(change))
        case MoveMessages():
            target = _named(change.target, "queue")
            moved = await queue_changes.move(connection, change.source, target, change.limit)
            return ChangeResult(moved.count, moved.left)
        case RequeueDead():
            moved = await queue_changes.requeue_dead(connection, change.name, change.limit)
            return ChangeResult(moved.count, moved.left)
    return ChangeResult()


def _named(name: str, what: str) -> str:
    if not name:
        raise UsageError(f"the {what} has no name")
    return name


def _binding(change: Bind | Unbind) -> ExchangeBind | ExchangeUnbind | QueueBind | QueueUnbind:
    source, target = _named(change.exchange, "exchange"), _named(change.to, "destination")
    key, arguments = change.routing_key, dict(change.arguments)
    if change.to_exchange:
        method = ExchangeBind if isinstance(change, Bind) else ExchangeUnbind
        return method(destination=target, source=source, routing_key=key, arguments=arguments)
    queue_method = QueueBind if isinstance(change, Bind) else QueueUnbind
    return queue_method(queue=target, exchange=source, routing_key=key, arguments=arguments)
