"""WebSockets of an ASGI application, spoken with frame by frame."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from msctl.hosting.asgi import websocket
from msctl.model.websocket_spec import WebSocketSpec
from tests.support.hosted import hosted
from tests.support.websocket_client import BINARY, CLOSE, KEY, PING, PONG, TEXT, connected


def deny(status: object, *headers: tuple[object, object]) -> dict[str, object]:
    return {"type": "websocket.http.response.start", "status": status, "headers": list(headers)}


class Sending:
    """Sends messages to its WebSocket, and raises the exceptions among them."""

    def __init__(self, steps: Any) -> None:
        self._steps = steps if isinstance(steps, list) else [] if steps is None else [steps]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            for step in self._steps:
                if isinstance(step, BaseException):
                    raise step
                await send(step)


class Chat:
    """Accepts and echoes; keeps its scope and what it has received."""

    def __init__(self, **accept: Any) -> None:
        self._accept = accept
        self.scope: dict[str, Any] = {}
        self.received: list[dict[str, Any]] = []
        self.ended = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return
        self.scope = scope
        try:
            assert await receive() == {"type": "websocket.connect"}
            await send({"type": "websocket.accept", **self._accept})
            while (message := await receive())["type"] == "websocket.receive":
                self.received.append(message)
                await send({**message, "type": "websocket.send"})
            self.received.append(message)
        finally:
            self.ended.set()


async def test_scope_is_that_of_uvicorn() -> None:
    chat = Chat()
    fields = (KEY, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: one, two")
    async with connected(chat, *fields) as (_, client):
        assert client.answer["sec-websocket-protocol"] is None
    scope = chat.scope
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.4"}
    assert (scope["scheme"], scope["path"], scope["query_string"]) == ("ws", "/chat", b"x=1")
    assert scope["subprotocols"] == ["one", "two"]
    assert scope["extensions"] == {"websocket.http.response": {}}
    assert "method" not in scope


async def test_accept_carries_subprotocol_and_headers() -> None:
    chat = Chat(subprotocol="two", headers=[(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")])
    async with connected(chat) as (_, client):
        assert client.answer.status == 101
        assert client.answer["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert client.answer["sec-websocket-protocol"] == "two"
        assert [value for name, value in client.answer.fields if name == "set-cookie"] == ["a=1", "b=2"]


@pytest.mark.parametrize(
    ("accept", "protocol"),
    [({"subprotocol": ""}, None), ({"headers": [(b"Sec-WebSocket-Protocol", b"one")]}, "one")],
)
async def test_subprotocol_is_sent_as_uvicorn_does(accept: dict[str, Any], protocol: str | None) -> None:
    async with connected(Chat(**accept)) as (_, client):
        assert (client.answer.status, client.answer["sec-websocket-protocol"]) == (101, protocol)


async def test_text_bytes_fragments_and_pings_are_exchanged() -> None:
    async with connected(Chat()) as (_, client):
        client.send(TEXT, "grün".encode())
        assert await client.receive() == (TEXT, "grün".encode())
        client.send(BINARY, b"\x00" * 70_000)
        assert await client.receive() == (BINARY, b"\x00" * 70_000)
        client.send(TEXT, b"a", final=False)
        client.send(PING, b"payload")
        assert await client.receive() == (PONG, b"payload")
        client.send(0, b"b")
        assert await client.receive() == (TEXT, b"ab")


async def test_close_of_the_client_reaches_the_application() -> None:
    chat = Chat()
    async with connected(chat) as (_, client):
        client.send(CLOSE, struct.pack("!H", 4001) + b"bye")
        assert await client.receive() == (CLOSE, struct.pack("!H", 4001) + b"bye")
        await chat.ended.wait()
    assert chat.received == [{"type": "websocket.disconnect", "code": 4001, "reason": "bye"}]


async def test_lost_client_is_a_disconnect() -> None:
    chat = Chat()
    async with connected(chat) as (_, client):
        client.writer.transport.abort()
        await chat.ended.wait()
    assert chat.received == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]


async def test_close_of_the_application_reaches_the_client() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 3000, "reason": "done"})

    async with connected(app) as (_, client):
        assert await client.closed() == (3000, "done")


async def answered(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"x-why", b"no key")]})
    await send({"type": "websocket.http.response.body", "body": b"who ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"are you"})
    assert (await receive())["type"] == "websocket.disconnect"


async def refused(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.close"})
    assert (await receive())["code"] == 1006


@pytest.mark.parametrize(("app", "status", "body"), [(refused, 403, b""), (answered, 401, b"who are you")])
async def test_application_may_refuse_the_handshake(app: Any, status: int, body: bytes) -> None:
    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await app(scope, receive, send)

    async with hosted(wrapped) as served:
        fields = ("Upgrade: websocket", "Connection: upgrade", KEY, "Sec-WebSocket-Version: 13")
        response = await served.request("GET /", None, *fields)
        assert (response.status, response.body) == (status, body)
    assert not served.errors()


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (("Sec-WebSocket-Version: 13",), 400),
        (("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: short"), 400),
        (("Sec-WebSocket-Version: 8", KEY), 426),
    ],
)
async def test_invalid_handshake_never_reaches_the_application(fields: tuple[str, ...], status: int) -> None:
    chat = Chat()
    async with connected(chat, *fields) as (_, client):
        assert client.answer.status == status
        assert client.answer["sec-websocket-version"] == "13"
    assert not chat.scope


@pytest.mark.parametrize("fails", [False, True])
async def test_end_of_the_application_closes_the_socket(fails: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            if fails:
                raise ValueError("boom")

    async with connected(app) as (served, client):
        assert (await client.closed())[0] == (1011 if fails else 1000)
        assert ("ValueError: boom" in served.errors()) == fails


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"type": "websocket.send", "text": "early"}, "websocket.accept"),
        ({"type": "websocket.accept", "headers": [(b"sec-websocket-accept", b"x")]}, "the server's"),
        ({"type": "websocket.accept", "headers": [(b"x", b"a\r\nb: c")]}, "header value"),
        (ValueError("boom"), "ValueError: boom"),
        (asyncio.CancelledError("boom"), "CancelledError: boom"),
        (GeneratorExit("boom"), "GeneratorExit: boom"),
        (None, "returned without answering"),
        *((deny(status), "HTTP status") for status in ("401", None, 99, 100, 101, 199, 1000)),
        ({"type": "websocket.http.response.start"}, "KeyError: 'status'"),
        (deny(401, ("a", "b")), "must be bytes, not str"),
        (deny(401, (b"a", b"b\nc: d")), "header value"),
        ({"type": "websocket.http.response.body"}, "websocket.http.response.start"),
        (deny(401), "returned without completing"),
        ([deny(401), {"type": "websocket.accept"}], "websocket.http.response.body"),
        ([deny(401), ValueError("boom")], "ValueError: boom"),
        ([deny(401), {"type": "websocket.http.response.body", "body": "x"}], "must be bytes, not str"),
    ],
)
async def test_failure_before_the_answer_is_a_500(message: Any, reason: str) -> None:
    async with connected(Sending(message)) as (served, client):
        assert client.answer.status == 500
        assert reason in served.errors()


async def test_failure_within_the_denial_aborts_the_connection() -> None:
    piece = {"type": "websocket.http.response.body", "body": b"x", "more_body": True}
    async with connected(Sending([deny(401), piece, ValueError("boom")])) as (served, client):
        assert client.answer.status == 401
        with pytest.raises(ConnectionResetError):
            await client.rest()
        assert "ValueError: boom" in served.errors()


async def test_denial_that_broke_the_protocol_may_be_another() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            with pytest.raises(RuntimeError):
                await send(deny("401"))
            await send({"type": "websocket.accept"})

    async with connected(app) as (_, client):
        assert client.answer.status == 101


@pytest.mark.parametrize(
    "last",
    [
        [{"type": "websocket.close"}],
        [deny(401), {"type": "websocket.http.response.body"}],
        [{"type": "websocket.accept"}, {"type": "websocket.close"}],
    ],
)
async def test_message_after_the_end_is_an_error_of_the_application(last: list[Any]) -> None:
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            for message in last:
                await send(message)
            assert (await receive())["type"] == "websocket.disconnect"
            with pytest.raises(RuntimeError, match="has ended it"):
                await send({"type": "websocket.send", "text": "late"})
            ended.set()

    async with connected(app) as (_, client):
        if client.answer.status == 101:
            await client.closed()
        await ended.wait()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"type": "websocket.accept"}, "but got 'websocket.accept'"),
        ({"type": "websocket.send", "text": b"bytes"}, "must be a string"),
        ({"type": "websocket.send", "bytes": "text"}, "must be bytes"),
        ({"type": "websocket.send"}, "NoneType"),
        ({"type": "websocket.close", "code": 1005}, "1005"),
        ({"type": "websocket.close", "code": "1000"}, "'1000'"),
        ({"type": "websocket.close", "reason": b"x"}, "must be a string, not bytes"),
        ({"type": "websocket.close", "reason": "\ud800"}, "UnicodeEncodeError"),
        (deny(401), "but got 'websocket.http.response.start'"),
        (asyncio.CancelledError("boom"), "CancelledError: boom"),
        (GeneratorExit("boom"), "GeneratorExit: boom"),
    ],
)
async def test_broken_message_closes_with_1011(message: Any, reason: str) -> None:
    async with connected(Sending([{"type": "websocket.accept"}, message])) as (served, client):
        assert (await client.closed())[0] == 1011
        assert reason in served.errors()


async def test_returning_something_closes_with_1011() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> Any:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return 123
        return None

    async with connected(app) as (served, client):
        assert (await client.closed())[0] == 1011
        assert "returned 123 instead of None" in served.errors()


async def test_sending_to_a_client_that_has_left_is_an_oserror_that_nobody_logs() -> None:
    raised = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect":
                pass
            try:
                await send({"type": "websocket.send", "text": "late"})
            except OSError:
                raised.set()
                raise

    async with connected(app) as (served, client):
        client.writer.transport.abort()
        await raised.wait()
        assert not served.errors()


async def test_too_long_message_closes_with_1009() -> None:
    chat = Chat()
    async with connected(chat, websocket=WebSocketSpec(max_size=1000)) as (_, client):
        client.send(BINARY, b"x" * 1001)
        assert (await client.closed())[0] == 1009
        await chat.ended.wait()
    assert chat.received[-1]["code"] == 1009


async def test_fast_client_waits_for_a_slow_application() -> None:
    release = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await release.wait()
            count = 0
            while (await receive())["type"] == "websocket.receive":
                count += 1
                if count == 300:
                    await send({"type": "websocket.send", "text": "all"})

    async with connected(app) as (_, client):
        writer = client.writer
        for _ in range(300):
            client.send(BINARY, b"x" * 100_000)
        for _ in range(50):
            await asyncio.sleep(0)
        assert writer.transport.get_write_buffer_size() > 10_000_000
        release.set()
        assert await client.receive() == (TEXT, b"all")


async def test_silent_client_is_pinged_and_then_closed() -> None:
    spec = WebSocketSpec(ping_interval=0.01, ping_timeout=0.5)
    chat = Chat()
    async with connected(chat, websocket=spec) as (_, client):
        opcode, payload = await client.receive()
        assert (opcode, len(payload)) == (PING, 4)
        client.send(PONG, payload)
        assert (await client.receive())[0] == PING
        assert (await client.closed())[0] == 1011


async def test_client_that_answers_no_ping_may_stay_where_nothing_waits_for_it() -> None:
    async with connected(Chat(), websocket=WebSocketSpec(ping_interval=0.01, ping_timeout=0)) as (_, client):
        assert [(await client.receive())[0] for _ in range(3)] == [PING] * 3
        client.send(TEXT, b"still here")
        while (answer := await client.receive())[0] == PING:
            pass
        assert answer == (TEXT, b"still here")


async def test_client_that_reads_nothing_holds_no_send(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is reset where neither a ping nor the close is answered."""
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", 0.01)
    spec = WebSocketSpec(ping_interval=0.01, ping_timeout=0.01)
    raised = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            with pytest.raises(OSError, match="left"):
                while True:
                    await send({"type": "websocket.send", "bytes": bytes(1_000_000)})
            raised.set()

    async with connected(app, websocket=spec) as (served, client):
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(10):
            await raised.wait()
        assert not served.errors()


async def test_closing_after_the_client_has_left_is_no_error() -> None:
    closed = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect":
                pass
            await send({"type": "websocket.close"})
            closed.set()

    async with connected(app) as (served, client):
        client.send(CLOSE, b"")
        await closed.wait()
        assert not served.errors()


async def test_sending_while_the_service_stops_is_an_oserror_that_nobody_logs() -> None:
    going, raised = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            await going.wait()
            try:
                await send({"type": "websocket.send", "text": "late"})
            except OSError:
                raised.set()
                raise

    async with connected(app) as (served, client):
        draining = asyncio.create_task(served.app.drain(5.0))
        while (await client.receive())[0] != CLOSE:
            pass
        going.set()
        await raised.wait()
        client.writer.close()
        await draining
        assert not served.errors()


async def test_stopping_service_closes_its_sockets() -> None:
    chat = Chat()
    async with connected(chat) as (served, client):
        draining = asyncio.create_task(served.app.drain(5.0))
        assert (await client.closed())[0] == 1001
        await draining
    assert chat.received[-1]["code"] == 1001


async def test_stopping_service_refuses_a_handshake_that_is_not_answered() -> None:
    waiting = asyncio.Event()
    found: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            waiting.set()
            found.append((await receive())["code"])
            with pytest.raises(OSError, match="left"):
                await send({"type": "websocket.accept"})
            found.append("refused")

    fields = ("Upgrade: websocket", "Connection: upgrade", KEY, "Sec-WebSocket-Version: 13")
    async with hosted(app) as served:
        asking = asyncio.create_task(served.request("GET /", None, *fields))
        await waiting.wait()
        await served.app.drain(5.0)
        assert (await asking).status == 503
    assert found == [1006, "refused"]
