"""Puts what a log holds into the broker, before it accepts connections."""

from __future__ import annotations

from msctl.broker.core.broker import Broker
from msctl.broker.core.exchanges import Exchange, ExchangeType
from msctl.broker.core.journal import StoredDelay
from msctl.broker.core.messages import Message
from msctl.broker.protocol.replies import AmqpError
from msctl.broker.storage.records import StoredBinding, StoredExchange, StoredQueue
from msctl.broker.storage.replay import Replay


def restore(broker: Broker, replay: Replay) -> list[str]:
    """Create the stored virtual hosts, exchanges, queues and bindings, and fill the queues.

    Returns a text for each thing that this version cannot serve; it stays in the log. Bindings of ends that
    are gone are removed from it: the broker was killed before it had removed them all.
    """
    problems: list[str] = []
    bindings: list[tuple[int, StoredBinding]] = []
    delayed: list[tuple[int, StoredDelay]] = []
    unserved: set[tuple[str, str, str]] = set()
    epoch = broker.clock.time() - broker.clock.monotonic()
    delivered = replay.delivered if replay.closed else None
    for number, item in replay.items.items():
        try:
            if isinstance(item, StoredQueue):
                queue = broker.add_vhost(item.vhost).recover_queue(
                    number, item.name, auto_delete=item.auto_delete, arguments=item.arguments
                )
                messages = _with_expiry(replay.in_order(number), epoch)
                queue.recover(messages, delivered, replay.counts)
            elif isinstance(item, StoredExchange):
                broker.add_vhost(item.vhost).routing.recover_exchange(number, _exchange(item))
            elif isinstance(item, StoredBinding):
                bindings.append((number, item))
            elif isinstance(item, StoredDelay):
                delayed.append((number, item))
        except (AmqpError, ValueError) as error:
            problems.append(f"{item} cannot be served: {error}")
            if isinstance(item, StoredQueue | StoredExchange):
                unserved.add((_kind(item), item.vhost, item.name))
    journal = broker.memory.journal
    for number, binding in bindings:
        found = broker.add_vhost(binding.vhost).routing.recover_binding(
            number, binding.source, binding.destination, binding.kind, binding.key, binding.arguments
        )
        if found:
            continue
        ends = (("exchange", binding.source), (binding.kind, binding.destination))
        if any((kind, binding.vhost, name) in unserved for kind, name in ends):
            problems.append(f"{binding} cannot be served: one of its ends cannot")
        elif journal is not None:
            journal.drop(number)
    for number, message in delayed:
        broker.add_vhost(message.vhost).routing.recover_delayed(number, message)
    return problems


def _kind(item: StoredQueue | StoredExchange) -> str:
    return "queue" if isinstance(item, StoredQueue) else "exchange"


def _exchange(item: StoredExchange) -> Exchange:
    return Exchange(
        item.name,
        ExchangeType(item.kind),
        durable=True,
        auto_delete=item.auto_delete,
        internal=item.internal,
        arguments=item.arguments,
    )


def _with_expiry(messages: list[Message], epoch: float) -> list[Message]:
    """The messages with the times at which they expire on the clock of this run."""
    if all(message[3] is None for message in messages):
        return messages
    return [
        message if message[3] is None else (*message[:3], message[3] - epoch, message[4])
        for message in messages
    ]
