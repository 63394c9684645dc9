"""Log in to an AMQP server once, without a client library, to see whether it is ready."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TypeVar

from pamqp import base, commands, frame, header
from pamqp.common import FieldTable
from pamqp.exceptions import UnmarshalingException

_Method = TypeVar("_Method", bound=base.Frame)


class LoginRefusedError(Exception):
    """The server refused the login or answered with something else."""


async def log_in(host: str, port: int, user: str, password: str, vhost: str = "/") -> str:
    """Open and close an AMQP connection to `vhost`; return the server's version.

    Source: AMQP 0-9-1 section 2.2.4. Raises LoginRefusedError and OSError.
    """
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(header.ProtocolHeader().marshal())
        start = await _expect(reader, commands.Connection.Start)
        properties: FieldTable = {
            "product": "msctl",
            "capabilities": {"authentication_failure_close": True},
        }
        response = f"\0{user}\0{password}"
        _send(writer, commands.Connection.StartOk(properties, "PLAIN", response, "en_US"))
        tune = await _expect(reader, commands.Connection.Tune)
        _send(writer, commands.Connection.TuneOk(tune.channel_max, tune.frame_max, 0))
        _send(writer, commands.Connection.Open(vhost))
        await _expect(reader, commands.Connection.OpenOk)
        _send(writer, commands.Connection.Close(200, "ready", 0, 0))
        await _expect(reader, commands.Connection.CloseOk)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return str((start.server_properties or {}).get("version", "unknown"))


def _send(writer: asyncio.StreamWriter, method: base.Frame) -> None:
    writer.write(frame.marshal(method, 0))


async def _expect(reader: asyncio.StreamReader, kind: type[_Method]) -> _Method:
    try:
        head = await reader.readexactly(7)
        body = await reader.readexactly(int.from_bytes(head[3:7]) + 1)
        _, _, method = frame.unmarshal(head + body)
    except (asyncio.IncompleteReadError, UnmarshalingException) as error:
        raise LoginRefusedError(f"it closed the connection instead of {kind.__name__}") from error
    if isinstance(method, commands.Connection.Close):
        raise LoginRefusedError(f"{method.reply_code} {method.reply_text}")
    if not isinstance(method, kind):
        raise LoginRefusedError(f"it sent {type(method).__name__} instead of {kind.__name__}")
    return method
