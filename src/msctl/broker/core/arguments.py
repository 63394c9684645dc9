"""The arguments of queue.declare and basic.consume: validation and meaning. Pure.

Texts and rules are those of RabbitMQ 3.10's classic and quorum queues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from msctl.broker.protocol.properties import MAX_EXPIRY_MS
from msctl.broker.protocol.replies import AmqpError, not_implemented, precondition_failed
from msctl.broker.protocol.tables import INTEGERS, TYPE_NAMES, FieldValue, Table

CLASSIC = "classic"
QUORUM = "quorum"
DROP_HEAD = "drop-head"
REJECT_PUBLISH = "reject-publish"
REJECT_PUBLISH_DLX = "reject-publish-dlx"
MAX_PRIORITY_LEVELS = 255
MAX_NAME = 255
"""The largest name or routing key on the wire, in bytes."""


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """A queue's arguments; times in milliseconds, None for no limit."""

    message_ttl: int | None = None
    expires: int | None = None
    max_length: int | None = None
    max_bytes: int | None = None
    overflow: str = DROP_HEAD
    dead_letter_exchange: str | None = None
    dead_letter_key: str | None = None
    max_priority: int = 0
    single_active_consumer: bool = False
    kind: str = CLASSIC
    delivery_limit: int | None = None
    """How often a message may be returned to a quorum queue."""


_PLAIN = QueueOptions()


def read_queue_arguments(table: Table, queue: str) -> QueueOptions:
    """Validate the arguments of a new queue; `queue` names it in error texts.

    Raises AmqpError 406 for an invalid argument, 540 for a stream.
    """
    if not table:
        return _PLAIN
    read_dead_letter_exchange(table, queue)
    _check(table, queue, {b"x-queue-type": _check_queue_type})
    kind = _text(table, b"x-queue-type") or CLASSIC
    if kind == "stream":
        raise not_implemented(
            f"{queue} cannot be a stream: the embedded broker has no log that consumers read from an offset. "
            "Use x-queue-type quorum, or a RabbitMQ"
        )
    _check(table, queue, _QUEUE_CHECKS)
    if kind == QUORUM:
        _check(table, queue, _QUORUM_CHECKS)
    _refuse(table, queue, _OTHER_TYPES_ARGUMENTS[kind], kind)
    limit = _value(table, b"x-delivery-limit") if kind == QUORUM else None
    return QueueOptions(
        kind=kind,
        message_ttl=_value(table, b"x-message-ttl"),
        expires=_value(table, b"x-expires"),
        max_length=_value(table, b"x-max-length"),
        max_bytes=_value(table, b"x-max-length-bytes"),
        overflow=_text(table, b"x-overflow") or DROP_HEAD,
        dead_letter_exchange=_text(table, b"x-dead-letter-exchange"),
        dead_letter_key=_text(table, b"x-dead-letter-routing-key"),
        max_priority=_value(table, b"x-max-priority") or 0,
        single_active_consumer=bool(_value(table, b"x-single-active-consumer")),
        delivery_limit=limit if type(limit) is int else None,
    )


def read_dead_letter_exchange(table: Table, queue: str) -> str | None:
    """The name of the dead-letter exchange. Raises AmqpError 406 for a value that is no string."""
    exchange = table.get(b"x-dead-letter-exchange")
    if exchange is not None and exchange[0] != "S":
        raise precondition_failed(
            f"invalid type '{TYPE_NAMES[exchange[0]]}' for arg 'x-dead-letter-exchange' in {queue}"
        )
    return _text(table, b"x-dead-letter-exchange")


def read_consumer_priority(table: Table, queue: str, kind: str = CLASSIC) -> int:
    """The consumer's x-priority, 0 by default. Raises AmqpError 406 for invalid arguments."""
    _check(table, queue, _CONSUMER_CHECKS)
    _refuse(table, queue, (b"x-stream-offset",), kind)
    return _value(table, b"x-priority") or 0


def check_equivalent(
    current: Table, received: Table, keys: Iterable[bytes], name: str, *, absent_type: bool = False
) -> None:
    """Check that a redeclaration is equivalent; integers of any width compare by value.

    With `absent_type`, no x-queue-type is equivalent to classic. Raises AmqpError 406.
    """
    for key in keys:
        was, now = current.get(key), received.get(key)
        if was == now:
            continue
        if was is None or now is None:
            if absent_type and key == b"x-queue-type" and (was or now) == ("S", b"classic"):
                continue
            raise inequivalent(key.decode(), name, _describe(now), _describe(was))
        if was[1] == now[1]:
            continue
        raise inequivalent(key.decode(), name, f"'{_print(now[1])}'", f"'{_print(was[1])}'")


def check_same(key: str, name: str, current: bool | str, received: bool | str) -> None:
    """Check one property of a redeclaration. Raises AmqpError 406 if it differs."""
    if current != received:
        raise inequivalent(key, name, f"'{_print(received)}'", f"'{_print(current)}'")


def inequivalent(key: str, name: str, received: str, current: str) -> AmqpError:
    return precondition_failed(
        f"inequivalent arg '{key}' for {name}: received {received} but current is {current}"
    )


QUEUE_ARGUMENTS = (
    b"x-expires",
    b"x-message-ttl",
    b"x-dead-letter-exchange",
    b"x-dead-letter-routing-key",
    b"x-dead-letter-strategy",
    b"x-delivery-limit",
    b"x-max-length",
    b"x-max-length-bytes",
    b"x-max-in-memory-length",
    b"x-max-in-memory-bytes",
    b"x-max-priority",
    b"x-overflow",
    b"x-queue-mode",
    b"x-queue-version",
    b"x-single-active-consumer",
    b"x-queue-type",
    b"x-quorum-initial-group-size",
    b"x-queue-leader-locator",
    b"x-queue-master-locator",
)
"""The arguments that a redeclaration of a queue must repeat, in RabbitMQ's order."""

_STREAMS_ARGUMENTS = frozenset({b"x-max-age", b"x-stream-max-segment-size-bytes", b"x-initial-cluster-size"})
_OTHER_TYPES_ARGUMENTS = {
    CLASSIC: _STREAMS_ARGUMENTS
    | {
        b"x-dead-letter-strategy",
        b"x-max-in-memory-length",
        b"x-max-in-memory-bytes",
        b"x-quorum-initial-group-size",
        b"x-delivery-limit",
        b"x-queue-leader-locator",
    },
    QUORUM: _STREAMS_ARGUMENTS
    | {b"x-max-priority", b"x-queue-mode", b"x-queue-version", b"x-queue-master-locator"},
}
"""By queue type, the arguments that only queues of other types take."""

Check = Callable[[FieldValue, Table], str | None]
"""Returns what is wrong with an argument, in RabbitMQ's notation, or None."""


def _check(table: Table, queue: str, checks: dict[bytes, Check]) -> None:
    for key, check in checks.items():
        field = table.get(key)
        problem = None if field is None else check(field, table)
        if problem is not None:
            raise precondition_failed(f"invalid arg '{key.decode()}' for {queue}: {problem}")


def _refuse(table: Table, queue: str, keys: Iterable[bytes], kind: str) -> None:
    for key in table:
        if key in keys:
            raise precondition_failed(
                f"invalid arg '{key.decode()}' for {queue} of queue type rabbit_{kind}_queue"
            )


def _integer(field: FieldValue, _: Table) -> str | None:
    kind, _value = field
    return None if kind in INTEGERS else f'"expected integer, got {TYPE_NAMES[kind]}"'


def _not_negative(field: FieldValue, table: Table) -> str | None:
    problem = _integer(field, table)
    if problem is None and field[1] < 0:
        return f"{{value_negative,{field[1]}}}"
    return problem


def _expiry(field: FieldValue, table: Table) -> str | None:
    problem = _not_negative(field, table)
    if problem is None and field[1] > MAX_EXPIRY_MS:
        return f"{{value_too_large,{field[1]}}}"
    return problem


def _positive_expiry(field: FieldValue, table: Table) -> str | None:
    problem = _integer(field, table)
    if problem is None and field[1] == 0:
        return "{value_zero,0}"
    return _expiry(field, table)


def _positive(field: FieldValue, table: Table) -> str | None:
    problem = _not_negative(field, table)
    if problem is None and field[1] == 0:
        return "{value_zero,0}"
    return problem


def _max_priority(field: FieldValue, table: Table) -> str | None:
    problem = _not_negative(field, table)
    if problem is None and field[1] > MAX_PRIORITY_LEVELS:
        return f"{{max_value_exceeded,{field[1]}}}"
    return problem


def _string(field: FieldValue, _: Table) -> str | None:
    return None if field[0] == "S" else f"{{unacceptable_type,{TYPE_NAMES[field[0]]}}}"


def _boolean(field: FieldValue, _: Table) -> str | None:
    return None if field[0] == "t" else f"{{unacceptable_type,{TYPE_NAMES[field[0]]}}}"


def _dead_letter_key(field: FieldValue, table: Table) -> str | None:
    problem = _string(field, table)
    if problem is None and b"x-dead-letter-exchange" not in table:
        return "routing_key_but_no_dlx_defined"
    return problem


def _one_of(values: frozenset[bytes], problem: str) -> Check:
    def check(field: FieldValue, table: Table) -> str | None:
        wrong = _string(field, table)
        if wrong is None and field[1] not in values:
            return problem.format(field[1].decode(errors="replace"))
        return wrong

    return check


def _version(field: FieldValue, table: Table) -> str | None:
    problem = _not_negative(field, table)
    if problem is None and field[1] not in (1, 2):
        return f"\"unsupported queue version '{field[1]}'\""
    return problem


_check_queue_type = _one_of(frozenset({b"classic", b"quorum", b"stream"}), "\"unsupported queue type '{}'\"")

_QUEUE_CHECKS: dict[bytes, Check] = {
    b"x-expires": _positive_expiry,
    b"x-message-ttl": _expiry,
    b"x-dead-letter-exchange": _string,
    b"x-dead-letter-routing-key": _dead_letter_key,
    b"x-max-length": _not_negative,
    b"x-max-length-bytes": _not_negative,
    b"x-max-priority": _max_priority,
    b"x-overflow": _one_of(
        frozenset({DROP_HEAD.encode(), REJECT_PUBLISH.encode(), REJECT_PUBLISH_DLX.encode()}),
        "invalid_overflow",
    ),
    b"x-queue-mode": _one_of(frozenset({b"default", b"lazy"}), "\"unsupported queue mode '{}'\""),
    b"x-queue-version": _version,
    b"x-single-active-consumer": _boolean,
}

_QUORUM_CHECKS: dict[bytes, Check] = {
    b"x-dead-letter-strategy": _one_of(
        frozenset({b"at-most-once", b"at-least-once"}), "invalid_dlx_strategy"
    ),
    b"x-max-in-memory-length": _not_negative,
    b"x-max-in-memory-bytes": _not_negative,
    b"x-quorum-initial-group-size": _positive,
    b"x-queue-leader-locator": _one_of(
        frozenset({b"client-local", b"balanced", b"random", b"least-leaders"}), "invalid_queue_locator_arg"
    ),
}

_CONSUMER_CHECKS: dict[bytes, Check] = {
    b"x-priority": _integer,
    b"x-cancel-on-ha-failover": _boolean,
}


def _value(table: Table, key: bytes) -> Any:
    field = table.get(key)
    return None if field is None else field[1]


def _text(table: Table, key: bytes) -> str | None:
    value = _value(table, key)
    return None if value is None else value[:MAX_NAME].decode(errors="surrogateescape")


def _describe(field: FieldValue | None) -> str:
    if field is None:
        return "none"
    kind, value = field
    return f"the value '{_print(value)}' of type '{TYPE_NAMES[kind]}'"


def _print(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value)
