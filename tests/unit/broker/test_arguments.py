"""Arguments of queues and consumers: validation with RabbitMQ's texts, and equivalence."""

from __future__ import annotations

import pytest

from msctl.broker.core.arguments import (
    QUEUE_ARGUMENTS,
    check_equivalent,
    check_same,
    read_consumer_priority,
    read_queue_arguments,
)
from msctl.broker.protocol.replies import AmqpError, ReplyCode
from msctl.broker.protocol.tables import FieldValue

QUEUE = "queue 'q' in vhost '/'"


@pytest.mark.parametrize(
    ("name", "field", "problem"),
    [
        ("x-message-ttl", ("S", b"1"), 'invalid arg .*: "expected integer, got longstr"'),
        ("x-message-ttl", ("I", -1), "{value_negative,-1}"),
        ("x-expires", ("I", 0), "{value_zero,0}"),
        ("x-expires", ("l", 2**40), "{value_too_large,"),
        ("x-max-length", ("t", True), "expected integer, got bool"),
        ("x-max-priority", ("I", 256), "{max_value_exceeded,256}"),
        ("x-overflow", ("S", b"explode"), "invalid_overflow"),
        ("x-overflow", ("I", 1), "{unacceptable_type,signedint}"),
        ("x-dead-letter-exchange", ("I", 1), "invalid type 'signedint' for arg"),
        ("x-dead-letter-routing-key", ("S", b"k"), "routing_key_but_no_dlx_defined"),
        ("x-single-active-consumer", ("S", b"true"), "{unacceptable_type,longstr}"),
        ("x-queue-mode", ("S", b"fast"), "unsupported queue mode 'fast'"),
        ("x-queue-version", ("I", 3), "unsupported queue version '3'"),
        ("x-queue-type", ("S", b"odd"), "unsupported queue type 'odd'"),
        ("x-max-age", ("S", b"1D"), "of queue type rabbit_classic_queue"),
    ],
)
def test_invalid_argument_is_refused_with_a_reason(name: str, field: FieldValue, problem: str) -> None:
    with pytest.raises(AmqpError, match=problem) as caught:
        read_queue_arguments({name.encode(): field}, QUEUE)
    assert caught.value.code is ReplyCode.PRECONDITION_FAILED


def test_unavailable_queue_type_is_an_internal_error() -> None:
    with pytest.raises(AmqpError, match="feature flag is disabled") as caught:
        read_queue_arguments({b"x-queue-type": ("S", b"quorum")}, QUEUE)
    assert caught.value.code is ReplyCode.INTERNAL_ERROR


def test_valid_arguments_are_read_and_unknown_ones_ignored() -> None:
    options = read_queue_arguments(
        {
            b"x-message-ttl": ("s", 10),
            b"x-dead-letter-exchange": ("S", b"dlx"),
            b"x-dead-letter-routing-key": ("S", b"k"),
            b"x-max-priority": ("B", 9),
            b"x-anything": ("V", None),
        },
        QUEUE,
    )
    assert (options.message_ttl, options.max_priority) == (10, 9)
    assert (options.dead_letter_exchange, options.dead_letter_key) == ("dlx", "k")


@pytest.mark.parametrize(
    ("current", "received"),
    [
        ({b"x-expires": ("I", 5)}, {b"x-expires": ("l", 5)}),
        ({}, {b"x-queue-type": ("S", b"classic")}),
        ({b"x-odd": ("I", 1)}, {}),
    ],
)
def test_equivalent_declarations_are_accepted(
    current: dict[bytes, FieldValue], received: dict[bytes, FieldValue]
) -> None:
    check_equivalent(current, received, QUEUE_ARGUMENTS, QUEUE, absent_type=True)


@pytest.mark.parametrize(
    ("current", "received", "text"),
    [
        ({b"x-expires": ("I", 5)}, {b"x-expires": ("I", 6)}, "received '6' but current is '5'"),
        ({}, {b"x-expires": ("I", 6)}, "received the value '6' of type 'signedint' but current is none"),
        ({b"x-overflow": ("S", b"drop-head")}, {}, "but current is the value 'drop-head' of type 'longstr'"),
    ],
)
def test_different_declarations_are_refused(
    current: dict[bytes, FieldValue], received: dict[bytes, FieldValue], text: str
) -> None:
    with pytest.raises(AmqpError, match=text):
        check_equivalent(current, received, QUEUE_ARGUMENTS, QUEUE)


def test_different_property_is_named() -> None:
    with pytest.raises(
        AmqpError, match=r"inequivalent arg 'durable' .* received 'true' but current is 'false'"
    ):
        check_same("durable", QUEUE, False, True)


def test_consumer_priority_is_read_from_its_arguments() -> None:
    assert read_consumer_priority({}, QUEUE) == 0
    assert read_consumer_priority({b"x-priority": ("I", -3)}, QUEUE) == -3
    for bad in ({b"x-priority": ("S", b"1")}, {b"x-stream-offset": ("S", b"first")}):
        with pytest.raises(AmqpError):
            read_consumer_priority(bad, QUEUE)
