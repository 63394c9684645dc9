"""AMQP methods whose names of queues and exchanges are any text, as RabbitMQ allows.

pamqp checks names against the specification's pattern of ASCII letters, digits and some punctuation when
it encodes a method. RabbitMQ and the embedded broker accept every UTF-8 string up to 255 bytes.
"""

from __future__ import annotations

from pamqp.commands import Basic, Exchange, Queue


class QueueDeclare(Queue.Declare):
    """queue.declare for any name."""

    def validate(self) -> None:
        """Accept any name; encoding checks its length."""


class ExchangeDeclare(Exchange.Declare):
    """exchange.declare for any name."""

    def validate(self) -> None:
        """Accept any name; encoding checks its length."""


class BasicGet(Basic.Get):
    """basic.get from a queue of any name."""

    def validate(self) -> None:
        """Accept any name; encoding checks its length."""


class BasicConsume(Basic.Consume):
    """basic.consume for a queue of any name."""

    def validate(self) -> None:
        """Accept any name; encoding checks its length."""


class BasicPublish(Basic.Publish):
    """basic.publish to an exchange of any name."""

    def validate(self) -> None:
        """Accept any name; encoding checks its length."""


class QueuePurge(Queue.Purge):
    """queue.purge for any name."""

    def validate(self) -> None:
        """Accept any name; encoding checks its length."""


class QueueDelete(Queue.Delete):
    """queue.delete for any name."""

    def validate(self) -> None:
        """Accept any name; encoding checks its length."""


class QueueBind(Queue.Bind):
    """queue.bind for any names."""

    def validate(self) -> None:
        """Accept any names; encoding checks their length."""


class QueueUnbind(Queue.Unbind):
    """queue.unbind for any names."""

    def validate(self) -> None:
        """Accept any names; encoding checks their length."""


class ExchangeDelete(Exchange.Delete):
    """exchange.delete for any name."""

    def validate(self) -> None:
        """Accept any name; encoding checks its length."""


class ExchangeBind(Exchange.Bind):
    """exchange.bind for any names."""

    def validate(self) -> None:
        """Accept any names; encoding checks their length."""


class ExchangeUnbind(Exchange.Unbind):
    """exchange.unbind for any names."""

    def validate(self) -> None:
        """Accept any names; encoding checks their length."""
