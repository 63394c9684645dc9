"""The probed service, as an ASGI application without a framework."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs


async def respond(send: Any, body: bytes, status: int = 200, *fields: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(fields)})
    await send({"type": "http.response.body", "body": body})


async def size(receive: Any) -> bytes:
    total, more = 0, True
    while more:
        message = await receive()
        total += len(message.get("body", b""))
        more = message.get("more_body", False)
    return str(total).encode()


async def pieces(send: Any, *parts: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for part in parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})


async def http(scope: Any, receive: Any, send: Any) -> None:
    match scope["path"].removeprefix(scope["root_path"]):
        case "/":
            await respond(send, f"{scope['method']} {scope['http_version']}".encode())
        case "/size":
            await respond(send, await size(receive))
        case "/head-size":
            own = [value for name, value in scope["headers"] if name.startswith(b"x-probe")]
            await respond(send, f"{len(own)} {sum(map(len, own))}".encode())
        case "/cookies":
            await respond(send, b"150", 200, *((b"set-cookie", b"c%d=%d" % (n, n)) for n in range(150)))
        case "/long-field":
            await respond(send, b"9000", 200, (b"x-long", b"x" * 9000))
        case "/nothing":
            await respond(send, b"", 204)
        case "/fail":
            raise RuntimeError("boom")
        case "/cut":
            await pieces(send, b"half")
            raise RuntimeError("boom")
        case "/stream":
            await pieces(send, b"one", b"two")
            await send({"type": "http.response.body"})
        case "/slow":
            await asyncio.sleep(0.3)
            await respond(send, b"slow")
        case "/store":
            mark = Path(parse_qs(scope["query_string"].decode())["mark"][0])
            mark.with_suffix(".stored").touch()
            await asyncio.sleep(0.5)
            mark.with_suffix(".published").touch()
            await respond(send, b"done")
        case "/refuse":
            await respond(send, b"no", 403)
        case _:
            await respond(send, b"not found", 404)


async def websocket(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept", "subprotocol": "chat"})
    while (message := await receive())["type"] == "websocket.receive":
        if message["text"] == "bye":
            await send({"type": "websocket.close", "code": 4001, "reason": "bye"})
        else:
            await send({"type": "websocket.send", "text": f"echo {message['text']}"})


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await http(scope, receive, send)
    elif scope["type"] == "websocket":
        await websocket(scope, receive, send)
