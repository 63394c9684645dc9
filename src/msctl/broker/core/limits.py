"""How many things clients may create, and RabbitMQ's answers when there are too many. Pure.

RabbitMQ sets most of these limits to infinity and lets an operator lower them. Here they are finite, and
so high that only a program that creates things without end reaches them. The texts are RabbitMQ's:
3.10's for connections and queues of a virtual host and for channels of a connection, 4.x's for channels
of a node, consumers and exchanges. RabbitMQ has no limit of bindings; its text follows the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from msctl.broker.protocol.replies import AmqpError, ReplyCode, not_allowed, precondition_failed, resource


@dataclass(frozen=True, slots=True)
class BrokerLimits:
    """Limits of one broker; those of queues, exchanges and bindings are per virtual host."""

    connections: int = 10_000
    channels: int = 100_000
    consumers_per_channel: int = 10_000
    queues: int = 200_000
    exchanges: int = 100_000
    bindings: int = 1_000_000


def too_many_connections(vhost: str, user: str, limit: int) -> AmqpError:
    return not_allowed(
        f"access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached"
    )


def too_many_connections_of(user: str, limit: int) -> AmqpError:
    return not_allowed(f"connection refused for user '{user}': user connection limit ({limit}) is reached")


def too_many_channels(limit: int) -> AmqpError:
    return AmqpError(
        ReplyCode.NOT_ALLOWED,
        "number of channels opened on node 'msctl@localhost' has reached the maximum allowed limit of "
        f"({limit})",
        method=0,
    )


def too_many_consumers(limit: int) -> AmqpError:
    return not_allowed(f"reached maximum ({limit}) of consumers per channel")


def too_many_queues(name: str, vhost: str, limit: int) -> AmqpError:
    return precondition_failed(
        f"cannot declare queue '{name}': queue limit in vhost '{vhost}' ({limit}) is reached"
    )


def too_many_exchanges(name: str, vhost: str, limit: int) -> AmqpError:
    return precondition_failed(
        f"cannot declare {resource('exchange', name, vhost)}: exchange limit of {limit} is reached"
    )


def too_many_bindings(exchange: str, vhost: str, limit: int) -> AmqpError:
    return precondition_failed(
        f"cannot bind to {resource('exchange', exchange, vhost)}: binding limit of {limit} is reached"
    )
