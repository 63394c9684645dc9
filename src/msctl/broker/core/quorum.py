"""What a quorum queue does otherwise than a classic one: rules of declaration, delivery counts. Pure.

The embedded broker has one node, so a quorum queue is an ordinary queue with RabbitMQ 3.10's rules for
quorum queues: durable only, no priorities, messages returned in the order of their return, counted
returns in the header x-delivery-count, and a limit of them.

The number of a taken message (see `messages.Taken`) carries its count of returns in its low bits. Each
return gives the message the next number, so that the order of numbers is the order of returns.
"""

from __future__ import annotations

from msctl.broker.core.messages import Message
from msctl.broker.protocol.properties import headers_of, join, split, with_headers
from msctl.broker.protocol.replies import AmqpError, not_implemented, precondition_failed

DELIVERY_LIMIT = "delivery_limit"
"""The reason in x-death of a message that was returned too often."""

_COUNT_BITS = 20
NUMBER_STEP = 1 << _COUNT_BITS
_COUNT_MASK = NUMBER_STEP - 1


def returns_of(number: int) -> int:
    """How often the message with this number has been returned to its queue."""
    return number & _COUNT_MASK


def returned_number(base: int, returns: int) -> int:
    """The number, from a multiple of NUMBER_STEP, of a message that has been returned `returns` times."""
    return base + min(returns, _COUNT_MASK)


def with_delivery_count(message: Message, number: int) -> Message:
    """The message as it is delivered: with the header x-delivery-count."""
    route, properties, body, expires, entry = message
    parts = split(properties)
    headers = {**(headers_of(parts) or {}), b"x-delivery-count": ("l", returns_of(number))}
    return route, join(with_headers(parts, headers)), body, expires, entry


def check_declaration(shown: str, *, durable: bool, exclusive: bool, auto_delete: bool) -> None:
    """Raises AmqpError 406 for a property that a quorum queue cannot have."""
    for refused, name in (
        (auto_delete, "auto-delete"),
        (exclusive, "exclusive-owner"),
        (not durable, "non-durable"),
    ):
        if refused:
            raise precondition_failed(f"invalid property '{name}' for {shown}")


def refuse_conditional_delete(shown: str, flag: str) -> AmqpError:
    return not_implemented(
        f"cannot delete {shown}. queue.delete operations with {flag} flag set "
        "are not supported by quorum queues"
    )


def refuse_shared_limit(shown: str) -> AmqpError:
    return not_implemented(f"{shown} does not support global qos")
