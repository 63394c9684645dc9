"""What `send` and `consume` are told on the command line, checked and converted. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from msctl.errors import UsageError

SHORT_STRING = 255
"""Bytes that AMQP's short strings hold: names of queues and exchanges, keys, most properties."""
FIELD_NAME = 128
"""Bytes of a header's name that every client reads."""

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


@dataclass(frozen=True, slots=True)
class MessageProperties:
    """A message's properties as pamqp's Basic.Properties takes them by keyword."""

    values: dict[str, str | int | datetime] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


def parse_properties(
    properties: Sequence[str], headers: Sequence[str], *, content_type: str | None, persistent: bool
) -> MessageProperties:
    """`K=V` pairs as AMQP properties. Raises UsageError for an unknown name or a value of the wrong kind."""
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
                f"--property {name}: AMQP has no such property{_nearest(name)}",
                hint="they are: " + ", ".join(_PROPERTIES) + "; anything else goes into a --header",
            )
    if content_type is not None:
        values["content_type"] = short_string("--content-type", content_type)
    if persistent:
        values["delivery_mode"] = 2
    return MessageProperties(values, _headers(headers))


def _headers(pairs: Sequence[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for pair in pairs:
        name, value = _pair("--header", pair)
        if len(name.encode()) > FIELD_NAME:
            raise UsageError(f"--header: the name {name[:20]!r}… is longer than {FIELD_NAME} bytes")
        headers[name] = _encodable("--header", value)
    return headers


def parse_rate(text: str) -> float:
    """Messages per second, of `100`, `0.5` or `100/s`, `30/m`. Raises UsageError."""
    number, slash, unit = text.strip().partition("/")
    seconds = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(unit if slash else "s")
    try:
        rate = float(number) / (seconds or 0.0)
    except (ValueError, ZeroDivisionError):
        rate = 0.0
    if not 0.0 < rate < float("inf"):
        raise UsageError(
            f"--rate: {text!r} is not a number of messages per second", hint="write it like 100, 0.5 or 30/m"
        )
    return rate


def short_string(option: str, value: str) -> str:
    """`value`, if it fits AMQP's short strings. Raises UsageError."""
    if len(_encodable(option, value).encode()) > SHORT_STRING:
        raise UsageError(
            f"{option}: {value[:20]!r}… is longer than the {SHORT_STRING} bytes that AMQP allows"
        )
    return value


def queue_name(value: str) -> str:
    """A queue's name. Raises UsageError for an empty one, which would make the broker invent a queue."""
    if not value:
        raise UsageError("--queue: a queue needs a name")
    return short_string("--queue", value)


def _encodable(option: str, value: str) -> str:
    """`value`, unless it holds bytes of the command line that are not UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{option}: {value!a} is not UTF-8") from None
    return value


def _pair(option: str, pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not equals or not name:
        raise UsageError(f"{option}: {pair!r} is not written as NAME=VALUE")
    return _encodable(option, name), value


def _number(name: str, value: str, low: int, high: int) -> int:
    if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
        unit = " milliseconds" if name == "expiration" else ""
        raise UsageError(f"--property {name}: {value!r} is not a number of {low} to {high}{unit}")
    return int(value)


def _timestamp(value: str) -> datetime:
    """Seconds since the epoch, or ISO 8601; without a zone it is UTC."""
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
            hint="write seconds since 1970, or a time like 2026-01-31T12:00:00Z",
        ) from None
    return when


def _nearest(name: str) -> str:
    from msctl.hints import nearest

    close = nearest(name, _PROPERTIES)
    return f"; did you mean {close}?" if close else ""
