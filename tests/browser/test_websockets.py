"""A real browser and a hosted ASGI application compress each other's messages."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.browser import Browser
from tests.support.hosted import hosted

EXCHANGE = """
const [port, texts] = args;
const socket = new WebSocket(`ws://127.0.0.1:${port}/`);
await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject; });
const answers = [];
for (const text of texts) {
  const answer = new Promise((resolve) => { socket.onmessage = (event) => resolve(event.data); });
  socket.send(text);
  answers.push(await answer);
}
const closed = new Promise((resolve) => { socket.onclose = resolve; });
socket.send("bye");
const { code, wasClean } = await closed;
return { extensions: socket.extensions, answers, closed: [code, wasClean] };
"""


async def echo(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a page to connect from"})
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive" and message["text"] != "bye":
            await send({"type": "websocket.send", "text": message["text"]})
        await send({"type": "websocket.close", "code": 4001})


async def test_browser_and_application_compress_their_messages(browser: Browser) -> None:
    texts = ["grün", "", "grün", "long " * 200_000, "grün"]
    async with hosted(echo) as served:
        await asyncio.to_thread(browser.open, f"http://127.0.0.1:{served.port}/")
        found = await asyncio.to_thread(browser.run, EXCHANGE, served.port, texts)
        assert not served.errors()
    assert found["extensions"].startswith("permessage-deflate; server_max_window_bits=12; client_max_window")
    assert found["answers"] == texts
    assert found["closed"] == [4001, True]
