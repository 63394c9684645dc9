"""Connecting says what is wrong in words, never hangs, never shows a password, and ends promptly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from msctl.amqp.connection import Connection
from msctl.amqp.errors import BrokerAwayError, BrokerRefusedError
from msctl.amqp.url import BrokerUrl, parse_url
from msctl.errors import BrokerError, ExitCode, TimedOutError
from tests.support.clock import settle
from tests.support.ports import reserved_port
from tests.support.proxy import proxy

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[int]:
    listening = await asyncio.start_server(handler, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


async def failure(text: str, timeout: float = 5.0) -> BrokerError:
    with pytest.raises(BrokerError) as failed:
        await Connection.open(parse_url(text), name="test", timeout=timeout)
    error = failed.value
    assert error.exit_code is ExitCode.BROKER
    assert "hunter2" not in f"{error.message}{error.hint}"
    return error


async def test_a_port_where_nothing_listens_is_said_to_refuse() -> None:
    with reserved_port() as port:
        error = await failure(f"amqp://guest:hunter2@localhost:{port}/")
    assert isinstance(error, BrokerAwayError)
    assert error.message == f"no broker listens at localhost:{port}: connection refused"
    assert error.hint


async def test_a_host_that_is_not_known_is_named() -> None:
    error = await failure("amqp://guest:hunter2@no-such-host.invalid/")
    assert isinstance(error, BrokerAwayError)
    assert "'no-such-host.invalid' cannot be resolved" in error.message


async def test_a_wrong_password_is_a_refusal_and_is_not_repeated_to_the_user(url: BrokerUrl) -> None:
    error = await failure(f"amqp://guest:hunter2@{url.address}/")
    assert isinstance(error, BrokerRefusedError)
    assert error.code == 403
    assert "log in user 'guest'" in error.message


async def test_an_unknown_vhost_is_named(url: BrokerUrl) -> None:
    error = await failure(url.text.rsplit("/", 1)[0] + "/no-such-vhost")
    assert isinstance(error, BrokerRefusedError)
    assert error.code == 530
    assert "virtual host 'no-such-vhost'" in error.message


async def test_another_protocol_is_recognised() -> None:
    async def amqp_1_0(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"AMQP\x00\x01\x00\x00")
        await writer.drain()
        writer.close()

    async with server(amqp_1_0) as port:
        error = await failure(f"amqp://guest:hunter2@127.0.0.1:{port}/")
    assert "does not speak AMQP 0-9-1" in error.message


async def test_an_http_server_ends_in_words_at_once() -> None:
    async def http(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with server(http) as port:
        error = await failure(f"amqp://guest:hunter2@127.0.0.1:{port}/")
    assert "closed the connection during the AMQP handshake" in error.message


async def test_silence_is_bounded_by_the_timeout() -> None:
    done = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    async with server(silent) as port:
        error = await failure(f"amqp://guest:hunter2@127.0.0.1:{port}/", timeout=0.1)
        done.set()
    assert isinstance(error, BrokerAwayError)
    assert "no broker answered at" in error.message


# aiormq leaves a coroutine of its own unawaited where the handshake fails.
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_tls_to_a_plain_port_is_recognised(url: BrokerUrl) -> None:
    error = await failure(f"amqps://guest:hunter2@{url.address}/")
    assert "does not speak TLS" in error.message


async def test_a_lost_connection_says_so(url: BrokerUrl) -> None:
    async with proxy(url.host, url.port) as between:
        connection = await Connection.open(
            parse_url(f"amqp://guest:guest@127.0.0.1:{between.listen_port}/"), name="test"
        )
        waiting = asyncio.create_task(connection.lost())
        await between.cut()
        error = await waiting
        await connection.close()
    assert isinstance(error, BrokerAwayError)
    assert "was lost" in error.message
    assert not connection.is_open


async def test_a_request_on_a_lost_connection_fails_with_the_reason(url: BrokerUrl) -> None:
    async with proxy(url.host, url.port) as between:
        connection = await Connection.open(
            parse_url(f"amqp://guest:guest@127.0.0.1:{between.listen_port}/"), name="test"
        )
        channel = await connection.channel()
        await between.cut()
        with pytest.raises(BrokerAwayError, match="was lost"):
            await connection.ask(channel.queue_declare("x", passive=True))
        await connection.close()


async def test_a_broker_that_stops_answering_times_out(url: BrokerUrl) -> None:
    async with proxy(url.host, url.port) as between:
        connection = await Connection.open(
            parse_url(f"amqp://guest:guest@127.0.0.1:{between.listen_port}/"), name="test"
        )
        channel = await connection.channel()
        between.freeze()
        with pytest.raises(TimedOutError, match=r"did not answer within 0\.1 s"):
            await connection.ask(channel.queue_declare("x", passive=True), timeout=0.1)
        await between.cut()
        await connection.close()


async def test_our_own_cancellation_is_not_taken_for_the_brokers(connection: Connection) -> None:
    waiting = asyncio.create_task(connection.ask(asyncio.get_running_loop().create_future()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_closing_twice_does_no_harm(connection: Connection) -> None:
    await connection.close()
    await connection.close()
    assert not connection.is_open


async def test_a_connection_found_dead_by_its_heartbeat_is_not_taken_for_a_cancellation(
    url: BrokerUrl,
) -> None:
    async with proxy(url.host, url.port) as between:
        connection = await Connection.open(
            parse_url(f"amqp://guest:guest@127.0.0.1:{between.listen_port}/"), name="test"
        )
        channel = await connection.channel()
        between.freeze()
        waiting = asyncio.create_task(connection.ask(channel.queue_declare("x", passive=True)))
        await settle()
        # What aiormq does to itself when no frame has come for three heartbeats.
        connection._transport._reader_task.cancel()
        with pytest.raises(BrokerAwayError, match="was lost"):
            await waiting
        await connection.close()
