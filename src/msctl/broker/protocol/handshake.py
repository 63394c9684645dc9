"""The connection handshake: server properties, authentication and tuning. Pure.

Source: AMQP 0-9-1 section 2.2.4; texts and the order of checks are RabbitMQ 3.10's.
"""

from __future__ import annotations

from dataclasses import dataclass

from msctl import __version__
from msctl.broker.protocol.replies import AmqpError, ReplyCode, not_allowed
from msctl.broker.protocol.tables import MalformedError, Table, decode_table, text_field
from msctl.broker.protocol.wire import FRAME_MIN

CHANNEL_MAX = 2047
FRAME_MAX = 131_072
HEARTBEAT = 60
MECHANISMS = b"PLAIN AMQPLAIN"
LOCALES = b"en_US"

CAPABILITIES = (
    b"publisher_confirms",
    b"exchange_exchange_bindings",
    b"basic.nack",
    b"consumer_cancel_notify",
    b"connection.blocked",
    b"consumer_priorities",
    b"authentication_failure_close",
    b"per_consumer_qos",
    b"direct_reply_to",
)


RABBITMQ_VERSION = "3.10.8"
"""The RabbitMQ whose behaviour the differential tests prove."""


def server_properties() -> Table:
    """Clients choose semantics by product and version; `information` and `platform` name this broker."""
    return {
        b"capabilities": ("F", dict.fromkeys(CAPABILITIES, ("t", True))),
        b"cluster_name": text_field("msctl@localhost"),  # amqp.probe tells embedded brokers by it
        b"copyright": text_field("MIT License"),
        b"information": text_field(
            f"msctl {__version__}: an embedded broker that behaves as RabbitMQ {RABBITMQ_VERSION}"
        ),
        b"platform": text_field(f"msctl/{__version__} Python"),
        b"product": text_field("RabbitMQ"),
        b"version": text_field(RABBITMQ_VERSION),
    }


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The client's capabilities that change the server's behaviour."""

    cancel_notify: bool = False
    blocked: bool = False
    failure_close: bool = False


def client_capabilities(properties: Table) -> Capabilities:
    kind, table = properties.get(b"capabilities", ("V", None))
    if kind != "F":
        return Capabilities()
    return Capabilities(
        cancel_notify=table.get(b"consumer_cancel_notify") == ("t", True),
        blocked=table.get(b"connection.blocked") == ("t", True),
        failure_close=table.get(b"authentication_failure_close") == ("t", True),
    )


def credentials(mechanism: str, response: bytes) -> tuple[str, bytes]:
    """User and password of a SASL response. Raises AmqpError 502 or 503."""
    if mechanism == "PLAIN":
        parts = response.split(b"\0")
        if len(parts) == 3 and parts[0] == b"":
            return _decode(parts[1]), parts[2]
    elif mechanism == "AMQPLAIN":
        try:
            table = decode_table(response, 0, len(response))
        except MalformedError:
            table = {}
        user, password = table.get(b"LOGIN"), table.get(b"PASSWORD")
        if user and password and user[0] == password[0] == "S":
            return _decode(user[1]), bytes(password[1])
    else:
        raise AmqpError(ReplyCode.COMMAND_INVALID, f"unknown authentication mechanism '{mechanism}'")
    raise AmqpError(ReplyCode.SYNTAX_ERROR, f"malformed {mechanism} response")


def _decode(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")


def check_tuning(frame_max: int, channel_max: int) -> None:
    """Raises AmqpError 530 if tune-ok exceeds the limits that tune offered."""
    _check_limit("frame_max", frame_max, FRAME_MIN, FRAME_MAX)
    _check_limit("channel_max", channel_max, 1, CHANNEL_MAX)


def _check_limit(name: str, value: int, minimum: int, maximum: int) -> None:
    if value != 0 and value < minimum:
        raise not_allowed(f"negotiated {name} = {value} is lower than the minimum allowed value ({minimum})")
    if value == 0 or value > maximum:
        detail = " (no maximum)" if value == 0 else ""
        raise not_allowed(
            f"negotiated {name} = {value}{detail} is higher than the maximum allowed value ({maximum})"
        )
