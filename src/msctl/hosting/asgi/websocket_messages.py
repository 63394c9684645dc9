"""The messages of an application that are sent over its WebSocket. Pure."""

from __future__ import annotations

from msctl.hosting.asgi import websocket_frames as frames
from msctl.hosting.asgi.scope import Message


def payload_of(message: Message) -> tuple[int, bytes]:
    """Return opcode and payload of a websocket.send. Raises TypeError."""
    data = message.get("bytes")
    if data is not None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"'bytes' of websocket.send must be bytes, not {type(data).__name__}")
        return frames.BINARY, bytes(data)
    text = message.get("text")
    if not isinstance(text, str):
        raise TypeError(f"'text' of websocket.send must be a string, not {type(text).__name__}")
    return frames.TEXT, text.encode()


def close_of(message: Message) -> tuple[int, str]:
    """Return code and reason of a websocket.close. Raises RuntimeError and TypeError."""
    code, reason = message.get("code", frames.NORMAL), message.get("reason") or ""
    if not isinstance(code, int) or not (code in frames.SENDABLE or 3000 <= code <= 4999):
        raise RuntimeError(f"Invalid WebSocket close code {code!r}.")
    if not isinstance(reason, str):
        raise TypeError(f"'reason' of websocket.close must be a string, not {type(reason).__name__}")
    return code, reason


def received(content: str | bytes) -> Message:
    """Return the message that an application receives."""
    return {"type": "websocket.receive", "text" if isinstance(content, str) else "bytes": content}


def size_of(message: Message) -> int:
    return len(message.get("text") or message.get("bytes") or b"")
