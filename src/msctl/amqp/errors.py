"""Translates the exceptions of aio-pika, aiormq and the socket into `BrokerError`.

The rest of this package raises only these. aiormq's chains of causes can contain cycles, so each
exception is visited once.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator

import aiormq.exceptions as amqp

from msctl.amqp.url import BrokerUrl
from msctl.errors import BrokerError, MsctlError

LIBRARY_ERRORS = (amqp.AMQPError, amqp.ChannelInvalidStateError, OSError, EOFError, RuntimeError)
"""The exceptions that aiormq raises; its RuntimeErrors mean "already closed"."""

_WHERE = "start a broker there, or use another one with --url or AMQP_URL"
_CODES: dict[type[BaseException], int] = {
    amqp.ChannelAccessRefused: 403,
    amqp.ChannelNotFoundEntity: 404,
    amqp.ChannelLockedResource: 405,
    amqp.ChannelPreconditionFailed: 406,
    amqp.ConnectionFrameError: 501,
    amqp.ConnectionSyntaxError: 502,
    amqp.ConnectionCommandInvalid: 503,
    amqp.ConnectionChannelError: 504,
    amqp.ConnectionUnexpectedFrame: 505,
    amqp.ConnectionResourceError: 506,
    amqp.ConnectionNotAllowed: 530,
    amqp.ConnectionNotImplemented: 540,
    amqp.ConnectionInternalError: 541,
}
NO_ROUTE = 312
"""The reply code of a message that the broker returns because it matches no queue."""
_FORCED = 320
"""The reply code of a connection closed by an operator or by the broker's shutdown."""


class BrokerAwayError(BrokerError):
    """The broker cannot be reached, or the connection was lost; another attempt may succeed."""


class BrokerRefusedError(BrokerError):
    """The broker refused. `code` is AMQP's reply code, `text` the broker's reply text."""

    def __init__(self, message: str, *, code: int, text: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.text = text


def connect_error(exc: BaseException, url: BrokerUrl, timeout: float) -> MsctlError:
    """The error for a failed attempt to connect to `url` within `timeout` seconds."""
    at = url.address
    for cause in _causes(exc):
        match cause:
            case ssl.SSLCertVerificationError():
                return BrokerError(
                    f"the certificate of the broker at {at} cannot be verified: {cause.verify_message}",
                    hint="add ?cafile=/path/to/ca.pem to the URL, or use a host name in the certificate",
                )
            case ssl.SSLError():
                return BrokerError(
                    f"the server at {at} does not speak TLS",
                    hint="use amqp:// for a plain connection; TLS is usually on port 5671",
                )
            case amqp.ProbableAuthenticationError():
                return BrokerRefusedError(
                    f"the broker at {at} refused to log in user '{url.user}'",
                    code=403,
                    text=_text(cause),
                    hint="check the user name and password in the URL; 'guest' may log in from the broker's "
                    "own machine only",
                )
            case amqp.AuthenticationError():
                return BrokerError(f"the broker at {at} supports no SASL mechanism of this client")
            case amqp.InvalidFrameError() if "Connection.OpenOk" in str(cause):
                return BrokerRefusedError(
                    f"the broker at {at} refused virtual host '{url.vhost}' to user '{url.user}'",
                    code=530,
                    text=_text(cause),
                    hint="check that it exists and that the user has permissions for it; the URL's path "
                    "selects it, / is the default",
                )
            case amqp.ProtocolSyntaxError() | amqp.IncompatibleProtocolError():
                return BrokerError(f"the server at {at} does not speak AMQP 0-9-1", hint=_WHERE)
            case amqp.ConnectionClosed():
                return closed_error(cause, url)
    return _socket_error(exc, url, timeout)


def _socket_error(exc: BaseException, url: BrokerUrl, timeout: float) -> BrokerError:
    at = url.address
    for cause in _causes(exc):
        match cause:
            case TimeoutError():
                return BrokerAwayError(f"no broker answered at {at} within {timeout:g} s", hint=_WHERE)
            case ConnectionRefusedError():
                return BrokerAwayError(f"no broker listens at {at}: connection refused", hint=_WHERE)
            case OSError() if "[Errno 111]" in str(cause) or "Connect call failed" in str(cause):
                return BrokerAwayError(f"no broker listens at {at}: connection refused", hint=_WHERE)
    for cause in _causes(exc):
        if type(cause).__name__ in {"gaierror", "herror"}:
            return BrokerAwayError(
                f"the broker's host '{url.host}' cannot be resolved: {_text(cause)}", hint=_WHERE
            )
        if isinstance(cause, ConnectionResetError | BrokenPipeError) or "unexpectedly closed" in str(cause):
            return BrokerAwayError(
                f"the server at {at} closed the connection during the AMQP handshake", hint=_WHERE
            )
    return BrokerAwayError(f"the broker at {at} cannot be reached: {_text(exc)}", hint=_WHERE)


def closed_error(exc: BaseException | None, url: BrokerUrl) -> BrokerError:
    """The error for the end of an open channel or connection; None is an end without a reason."""
    for cause in _causes(exc):
        code = _code(cause)
        if code is None:
            continue
        text = _text(cause)
        if code == _FORCED:
            return BrokerAwayError(f"the broker at {url.address} closed the connection: {text}")
        return BrokerRefusedError(f"the broker refused: {text} ({code})", code=code, text=text)
    return BrokerAwayError(f"the connection to the broker at {url.address} was lost")


def is_connection_level(exc: BaseException) -> bool:
    """Whether `exc` closed the connection and not only a channel."""
    return isinstance(exc, amqp.ConnectionClosed)


def _code(exc: BaseException) -> int | None:
    """AMQP's reply code if `exc` is a close sent by the broker."""
    if not isinstance(exc, amqp.ChannelClosed | amqp.ConnectionClosed):
        return None
    known = _CODES.get(type(exc))
    if known is not None:
        return known
    code = exc.args[0] if exc.args else None
    return code if isinstance(code, int) and code else None


def _text(exc: BaseException) -> str:
    """The reply text on one line, without AMQP's upper-case name in front."""
    said = str(exc.args[-1] if exc.args else exc) or type(exc).__name__
    name, dash, detail = said.partition(" - ")
    if dash and name.isupper():
        said = detail
    return " ".join(said.split()).rstrip(".")


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    """`exc` and its causes, each once."""
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        if not isinstance(exc, asyncio.CancelledError):
            yield exc
        exc = exc.__cause__ or exc.__context__
