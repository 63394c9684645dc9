"""Values of the options of `send` and `consume`, checked and converted. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from msctl.errors import UsageError

DEFAULT_QUEUE = "hello"
"""The queue of the course."""

PERSISTENT = 2
"""AMQP's delivery mode of messages that a durable queue keeps on disk."""
SHORT_STRING = 255
"""Maximum bytes of an AMQP short string: queue and exchange names, routing keys, most properties."""
_ENTITY_NAME = re.compile(r"[a-zA-Z0-9-_.:@#,/+ ]*")

FIELD_NAME = 128
"""Maximum bytes of a header name that every client accepts."""

_TEXT_PROPERTIES = {
    "content-type": "content_type",
    "content-encoding": "content_encoding",
    "correlation-id": "correlation_id",
    "reply-to": "reply_to",
    "message-id": "message_id",
    "type": "message_type",
    "user-id": "user_id",
    "app-id": "app_id",
}
_PROPERTIES = (*_TEXT_PROPERTIES, "delivery-mode", "priority", "expiration", "timestamp")


class Ack(StrEnum):
    """What `consume` does with a message after printing it."""

    AUTO = "auto"
    MANUAL = "manual"
    REJECT = "reject"
    REQUEUE = "requeue"


class MessageFormat(StrEnum):
    """How `consume` prints a message."""

    TEXT = "text"
    JSON = "json"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class MessageProperties:
    """A message's properties, named as the attributes of pamqp's Basic.Properties."""

    values: dict[str, str | int | datetime] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


def parse_properties(
    properties: Sequence[str],
    headers: Sequence[str],
    *,
    content_type: str | None,
    persistent: bool,
    durable: bool = False,
) -> MessageProperties:
    """Convert `NAME=VALUE` pairs to AMQP properties. Raises UsageError for an unknown name or a bad value.

    Messages for a `durable` queue are persistent, unless a pair says otherwise.
    """
    values: dict[str, str | int | datetime] = {"content_type": "text/plain"}
    for pair in properties:
        name, value = _pair("--property", pair)
        name = name.replace("_", "-").lower()
        if name in _TEXT_PROPERTIES:
            values[_TEXT_PROPERTIES[name]] = short_string(f"--property {name}", value)
        elif name == "delivery-mode":
            values["delivery_mode"] = _number(name, value, 1, 2)
        elif name == "priority":
            values["priority"] = _number(name, value, 0, 255)
        elif name == "expiration":
            values["expiration"] = str(_number(name, value, 0, 2**32 - 1))
        elif name == "timestamp":
            values["timestamp"] = _timestamp(value)
        else:
            raise UsageError(
                f"--property: unknown AMQP property {name!r}{_nearest(name)}",
                hint=f"use one of {', '.join(_PROPERTIES)}; use --header for anything else",
            )
    if content_type is not None:
        values["content_type"] = short_string("--content-type", content_type)
    if persistent:
        values["delivery_mode"] = PERSISTENT
    elif durable:
        values.setdefault("delivery_mode", PERSISTENT)
    return MessageProperties(values, _headers(headers))


def _headers(pairs: Sequence[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for pair in pairs:
        name, value = _pair("--header", pair)
        if len(name.encode()) > FIELD_NAME:
            raise UsageError(f"--header: name {name[:20]!r}… is longer than {FIELD_NAME} bytes")
        headers[name] = _encodable("--header", value)
    return headers


def parse_rate(text: str) -> float:
    """Return messages per second from `100`, `0.5`, `100/s` or `30/m`. Raises UsageError."""
    number, slash, unit = text.strip().partition("/")
    seconds = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(unit if slash else "s")
    try:
        rate = float(number) / (seconds or 0.0)
    except (ValueError, ZeroDivisionError):
        rate = 0.0
    if not 0.0 < rate < float("inf"):
        raise UsageError(
            f"--rate: {text!r} is not a number of messages per second",
            hint="use a number as in 100, 0.5 or 30/m",
        )
    return rate


def short_string(option: str, value: str) -> str:
    """Return `value` if it fits an AMQP short string. Raises UsageError."""
    if len(_encodable(option, value).encode()) > SHORT_STRING:
        raise UsageError(f"{option}: {value[:20]!r}… is longer than {SHORT_STRING} bytes, AMQP's limit")
    return value


def queue_name(value: str) -> str:
    """Return `value` if it can name a queue: the broker replaces an empty name. Raises UsageError."""
    if not value:
        raise UsageError("--queue: the name must not be empty")
    return entity_name("--queue", value)


def entity_name(option: str, value: str) -> str:
    """Return `value` if it can name a queue or an exchange. Raises UsageError.

    RabbitMQ takes any UTF-8; pamqp, which encodes the frames, takes these characters only.
    """
    if not _ENTITY_NAME.fullmatch(short_string(option, value)):
        raise UsageError(
            f"{option}: {value!r} has a character that a name cannot have",
            hint="use letters, digits, spaces and any of - _ . : @ # , / +",
        )
    return value


def _encodable(option: str, value: str) -> str:
    """Return `value` if its bytes on the command line were UTF-8. Raises UsageError."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{option}: {value!a} is not UTF-8") from None
    return value


def _pair(option: str, pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not equals or not name:
        raise UsageError(f"{option}: {pair!r} is not of the form NAME=VALUE")
    return _encodable(option, name), value


def _number(name: str, value: str, low: int, high: int) -> int:
    if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
        unit = " milliseconds" if name == "expiration" else ""
        raise UsageError(f"--property {name}: {value!r} is not an integer from {low} to {high}{unit}")
    return int(value)


def _timestamp(value: str) -> datetime:
    """Parse seconds since the epoch, or ISO 8601 (UTC if it names no zone)."""
    try:
        if value.isascii() and value.isdigit():
            return datetime.fromtimestamp(int(value), UTC)
        when = datetime.fromisoformat(value)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        if when.timestamp() < 0:
            raise ValueError
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"--property timestamp: {value!r} is not a time",
            hint="use seconds since 1970, or a time as in 2026-01-31T12:00:00Z",
        ) from None
    return when


def _nearest(name: str) -> str:
    from msctl.hints import nearest

    close = nearest(name, _PROPERTIES)
    return f"; did you mean {close}?" if close else ""
