"""Reply codes of AMQP 0-9-1, and the error that closes a channel or a connection. Pure.

The texts are RabbitMQ's.
"""

from __future__ import annotations

from enum import IntEnum

MAX_TEXT = 255


class ReplyCode(IntEnum):
    """Names and numbers of the specification (section 1.2). Every reply text begins with the name."""

    REPLY_SUCCESS = 200
    CONTENT_TOO_LARGE = 311
    NO_ROUTE = 312
    NO_CONSUMERS = 313
    CONNECTION_FORCED = 320
    INVALID_PATH = 402
    ACCESS_REFUSED = 403
    NOT_FOUND = 404
    RESOURCE_LOCKED = 405
    PRECONDITION_FAILED = 406
    FRAME_ERROR = 501
    SYNTAX_ERROR = 502
    COMMAND_INVALID = 503
    CHANNEL_ERROR = 504
    UNEXPECTED_FRAME = 505
    RESOURCE_ERROR = 506
    NOT_ALLOWED = 530
    NOT_IMPLEMENTED = 540
    INTERNAL_ERROR = 541


_SOFT = frozenset(
    {
        ReplyCode.CONTENT_TOO_LARGE,
        ReplyCode.NO_ROUTE,
        ReplyCode.NO_CONSUMERS,
        ReplyCode.ACCESS_REFUSED,
        ReplyCode.NOT_FOUND,
        ReplyCode.RESOURCE_LOCKED,
        ReplyCode.PRECONDITION_FAILED,
    }
)


class AmqpError(Exception):
    """An error that closes the channel or the connection.

    `method` is the id (class << 16 | method) of the failing method for the close frame: None lets the
    dispatcher fill it in, 0 is for none.
    """

    def __init__(self, code: ReplyCode, detail: str = "", *, method: int | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.method = method

    def __str__(self) -> str:
        return f"{self.code.value} {self.text.decode(errors='replace')}"

    @property
    def closes_channel(self) -> bool:
        """Whether only the channel is closed; on channel 0 the connection is closed anyway."""
        return self.code in _SOFT

    @property
    def text(self) -> bytes:
        """`NAME - detail` as a short string, cut at 255 bytes with an ellipsis as RabbitMQ does."""
        text = f"{self.code.name} - {self.detail}" if self.detail else self.code.name
        encoded = text.encode(errors="surrogateescape")
        if len(encoded) <= MAX_TEXT:
            return encoded
        return encoded[: MAX_TEXT - 3] + b"..."


def not_found(kind: str, name: str, vhost: str) -> AmqpError:
    return AmqpError(ReplyCode.NOT_FOUND, f"no {resource(kind, name, vhost)}")


def access_refused(detail: str) -> AmqpError:
    return AmqpError(ReplyCode.ACCESS_REFUSED, detail)


def precondition_failed(detail: str) -> AmqpError:
    return AmqpError(ReplyCode.PRECONDITION_FAILED, detail)


def not_allowed(detail: str) -> AmqpError:
    return AmqpError(ReplyCode.NOT_ALLOWED, detail)


def not_implemented(detail: str) -> AmqpError:
    return AmqpError(ReplyCode.NOT_IMPLEMENTED, detail)


def channel_error(detail: str) -> AmqpError:
    return AmqpError(ReplyCode.CHANNEL_ERROR, detail)


def frame_error(detail: str) -> AmqpError:
    return AmqpError(ReplyCode.FRAME_ERROR, detail, method=0)


def unexpected_frame(detail: str, method: int = 0) -> AmqpError:
    return AmqpError(ReplyCode.UNEXPECTED_FRAME, detail, method=method)


def resource(kind: str, name: str, vhost: str) -> str:
    """A resource as reply texts name it: `queue 'q' in vhost '/'`."""
    return f"{kind} '{name}' in vhost '{vhost}'"


def erlang_binary(data: bytes) -> str:
    """Bytes as RabbitMQ's reply texts show them: `<<"text">>` or `<<1,2,3>>`."""
    if all(32 <= byte < 127 or byte >= 160 or byte in b"\n\r\t\v\b\f\x1b" for byte in data):
        if not data:
            return "<<>>"
        inner = "".join(_ESCAPES.get(byte, chr(byte)) for byte in data)
        return f'<<"{inner}">>'
    return "<<" + ",".join(map(str, data)) + ">>"


_ESCAPES = {
    ord('"'): '\\"',
    ord("\\"): "\\\\",
    0x08: "\\b",
    0x09: "\\t",
    0x0A: "\\n",
    0x0B: "\\v",
    0x0C: "\\f",
    0x0D: "\\r",
    0x1B: "\\e",
}
