"""Arguments of queues and consumers: validation with RabbitMQ's texts, and equivalence."""

from __future__ import annotations

import pytest

from msctl.broker.core.arguments import (
    QUEUE_ARGUMENTS,
    QueueOptions,
    check_equivalent,
    check_same,
    read_consumer_priority,
    read_queue_arguments,
)
from msctl.broker.protocol.replies import AmqpError, ReplyCode
from msctl.broker.protocol.tables import FieldValue, Table

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


def test_stream_is_refused_with_what_is_missing() -> None:
    with pytest.raises(AmqpError, match="no log that consumers read from an offset") as caught:
        read_queue_arguments({b"x-queue-type": ("S", b"stream")}, QUEUE)
    assert caught.value.code is ReplyCode.NOT_IMPLEMENTED


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


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("x-expires", ("I", 1)),
        ("x-expires", ("l", 4_294_967_295)),
        ("x-message-ttl", ("I", 0)),
        ("x-max-length", ("I", 0)),
        ("x-max-length-bytes", ("l", 2**40)),
        ("x-max-priority", ("B", 255)),
        ("x-overflow", ("S", b"reject-publish")),
        ("x-overflow", ("S", b"reject-publish-dlx")),
        ("x-queue-mode", ("S", b"default")),
        ("x-queue-mode", ("S", b"lazy")),
        ("x-queue-version", ("I", 1)),
        ("x-queue-version", ("I", 2)),
        ("x-queue-type", ("S", b"classic")),
        ("x-dead-letter-exchange", ("S", b"")),
        ("x-single-active-consumer", ("t", False)),
    ],
)
def test_an_argument_at_its_limit_is_accepted(name: str, field: FieldValue) -> None:
    read_queue_arguments({name.encode(): field}, QUEUE)


@pytest.mark.parametrize(
    ("name", "field", "problem"),
    [
        ("x-expires", ("I", -1), "{value_negative,-1}"),
        ("x-expires", ("I", 0), ": {value_zero,0}"),
        ("x-expires", ("S", b"1"), "expected integer, got longstr"),
        ("x-max-length-bytes", ("I", -1), "{value_negative,-1}"),
        ("x-max-priority", ("I", -1), "{value_negative,-1}"),
        ("x-queue-version", ("I", 0), "unsupported queue version '0'"),
        ("x-queue-version", ("I", -1), "{value_negative,-1}"),
        ("x-queue-mode", ("I", 1), "{unacceptable_type,signedint}"),
        ("x-dead-letter-routing-key", ("I", 1), "{unacceptable_type,signedint}"),
        ("x-overflow", ("S", b"\xff"), "invalid_overflow"),
        ("x-queue-type", ("S", b"\xff"), "unsupported queue type '\ufffd'"),
    ],
)
def test_an_invalid_argument_is_named_with_its_problem(name: str, field: FieldValue, problem: str) -> None:
    with pytest.raises(AmqpError) as caught:
        read_queue_arguments({name.encode(): field}, QUEUE)
    text = caught.value.text.decode()
    assert f"invalid arg '{name}' for {QUEUE}: " in text
    assert problem in text


@pytest.mark.parametrize(
    "name",
    [
        "x-dead-letter-strategy",
        "x-max-in-memory-length",
        "x-max-in-memory-bytes",
        "x-quorum-initial-group-size",
        "x-delivery-limit",
        "x-queue-leader-locator",
        "x-max-age",
        "x-stream-max-segment-size-bytes",
        "x-initial-cluster-size",
    ],
)
def test_arguments_of_other_queue_types_are_refused(name: str) -> None:
    with pytest.raises(AmqpError, match=f"invalid arg '{name}' for .* of queue type rabbit_classic_queue"):
        read_queue_arguments({name.encode(): ("I", 1)}, QUEUE)


def test_every_argument_of_a_redeclaration_is_compared() -> None:
    assert [name.decode() for name in QUEUE_ARGUMENTS] == [
        "x-expires",
        "x-message-ttl",
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-dead-letter-strategy",
        "x-delivery-limit",
        "x-max-length",
        "x-max-length-bytes",
        "x-max-in-memory-length",
        "x-max-in-memory-bytes",
        "x-max-priority",
        "x-overflow",
        "x-queue-mode",
        "x-queue-version",
        "x-single-active-consumer",
        "x-queue-type",
        "x-quorum-initial-group-size",
        "x-queue-leader-locator",
        "x-queue-master-locator",
    ]
    for name in QUEUE_ARGUMENTS:
        one, other = {name: ("I", 1)}, {name: ("I", 2)}
        check_equivalent(one, {name: ("l", 1)}, QUEUE_ARGUMENTS, QUEUE)
        with pytest.raises(AmqpError) as caught:
            check_equivalent(one, other, QUEUE_ARGUMENTS, QUEUE)
        text = caught.value.text.decode()
        assert f"inequivalent arg '{name.decode()}' for {QUEUE}: received '2' but current is '1'" in text


def test_a_missing_argument_is_shown_as_none() -> None:
    table: Table = {b"x-queue-type": ("S", b"\xff"), b"x-single-active-consumer": ("t", True)}
    for current, received, shown in (
        (table, {}, "received none but current is the value '\ufffd' of type 'longstr'"),
        ({}, table, "received the value '\ufffd' of type 'longstr' but current is none"),
    ):
        with pytest.raises(AmqpError) as caught:
            check_equivalent(current, received, (b"x-queue-type",), QUEUE)
        assert shown in caught.value.text.decode()
    with pytest.raises(AmqpError) as caught:
        check_equivalent(
            table, {b"x-single-active-consumer": ("t", False)}, (b"x-single-active-consumer",), QUEUE
        )
    assert "received 'false' but current is 'true'" in caught.value.text.decode()


def test_only_classic_may_be_left_out_and_only_where_that_is_asked_for() -> None:
    classic: Table = {b"x-queue-type": ("S", b"classic")}
    for one, other in ((classic, {}), ({}, classic)):
        check_equivalent(one, other, QUEUE_ARGUMENTS, QUEUE, absent_type=True)
        with pytest.raises(AmqpError):
            check_equivalent(one, other, QUEUE_ARGUMENTS, QUEUE)
    with pytest.raises(AmqpError):
        check_equivalent({b"x-queue-type": ("S", b"odd")}, {}, QUEUE_ARGUMENTS, QUEUE, absent_type=True)


def test_names_that_are_no_utf_8_pass_unchanged() -> None:
    options = read_queue_arguments(
        {b"x-dead-letter-exchange": ("S", b"\xff"), b"x-dead-letter-routing-key": ("S", b"k\xfe")}, QUEUE
    )
    assert options.dead_letter_exchange is not None
    assert options.dead_letter_exchange.encode(errors="surrogateescape") == b"\xff"
    assert options.dead_letter_key == "k\udcfe"


def test_names_are_cut_at_the_length_that_the_protocol_can_carry() -> None:
    options = read_queue_arguments({b"x-dead-letter-exchange": ("S", b"x" * 300)}, QUEUE)
    assert options.dead_letter_exchange == "x" * 255


def test_without_arguments_a_queue_has_no_limits() -> None:
    assert read_queue_arguments({}, QUEUE) == QueueOptions()
    assert QueueOptions() == QueueOptions(None, None, None, None, "drop-head", None, None, 0, False)
