"""Whatever the libraries raise becomes one sentence for the person who must act."""

from __future__ import annotations

import ssl

import aiormq.exceptions as amqp
import pytest

from msctl.amqp.errors import BrokerAwayError, BrokerRefusedError, closed_error, connect_error
from msctl.amqp.url import parse_url

URL = parse_url("amqp://me:hunter2@host:1/shop")


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("error", "words", "again"),
    [
        (
            caused(amqp.AMQPConnectionError(1), untrusted()),
            "cannot be verified: self-signed certificate",
            False,
        ),
        (amqp.AuthenticationError("X", ["PLAIN"]), "supports no SASL mechanism", False),
        (amqp.ConnectionClosed(320, "CONNECTION_FORCED - bye"), "closed the connection: bye", True),
        (amqp.ConnectionNotAllowed("NOT_ALLOWED - node limit"), "refused: node limit (530)", False),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed"), "connection refused", True),
        (OSError(101, "Network is unreachable"), "cannot be reached: Network is unreachable", True),
        (ConnectionResetError(104, "reset"), "closed the connection during the AMQP handshake", True),
        (TimeoutError(), "no broker answered at host:1 within 5 s", True),
    ],
)
def test_a_failed_attempt_says_what_and_where(error: Exception, words: str, again: bool) -> None:
    said = connect_error(error, URL, 5.0)
    assert words in said.message
    assert isinstance(said, BrokerAwayError) is again
    assert "hunter2" not in f"{said.message}{said.hint}"


def test_causes_that_lead_back_to_themselves_end() -> None:
    first, second = amqp.AMQPConnectionError("x"), RuntimeError("y")
    first.__cause__, second.__cause__ = second, first
    assert "cannot be reached: x" in connect_error(first, URL, 5.0).message


def test_a_channels_end_keeps_the_brokers_code_and_words() -> None:
    error = closed_error(amqp.ChannelPreconditionFailed("PRECONDITION_FAILED - no"), URL)
    assert isinstance(error, BrokerRefusedError)
    assert (error.code, error.text, error.message) == (406, "no", "the broker refused: no (406)")


def test_a_code_that_has_no_class_of_its_own_is_kept_too() -> None:
    error = closed_error(amqp.ChannelClosed(311, "CONTENT_TOO_LARGE - big"), URL)
    assert isinstance(error, BrokerRefusedError)
    assert (error.code, error.text) == (311, "big")


@pytest.mark.parametrize("end", [None, RuntimeError("closed"), amqp.ChannelClosed(None, None)])
def test_an_end_without_a_reason_is_a_lost_connection(end: Exception | None) -> None:
    error = closed_error(end, URL)
    assert isinstance(error, BrokerAwayError)
    assert error.message == "the connection to the broker at host:1 was lost"
