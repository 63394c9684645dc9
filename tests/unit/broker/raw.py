"""A client socket without a client library."""

from __future__ import annotations

import asyncio
import socket
import struct

from pamqp import base, commands, frame

from msctl.broker.protocol import wire


class Raw:
    """A bare socket that has shaken hands and opened channel 1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def dial(cls, url: str) -> Raw:
        port = int(url.rsplit(":", 1)[1].strip("/"))
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**16))

    @classmethod
    async def connect(cls, url: str) -> Raw:
        raw = await cls.dial(url)
        raw.writer.write(wire.PROTOCOL_HEADER)
        raw.write(commands.Connection.StartOk({}, "PLAIN", "\0guest\0guest"), 0)
        raw.write(commands.Connection.TuneOk(2047, 131072, 0), 0)
        raw.write(commands.Connection.Open("/"), 0)
        raw.write(commands.Channel.Open(), 1)
        while not isinstance(await raw.read(), commands.Channel.OpenOk):
            pass
        return raw

    def write(self, method: base.Frame, channel: int = 1) -> None:
        self.writer.write(frame.marshal(method, channel))

    async def read(self) -> object:
        head = await self.reader.readexactly(7)
        rest = await self.reader.readexactly(struct.unpack(">BHI", head)[2] + 1)
        return frame.unmarshal(head + rest)[2]

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass

    def reset(self) -> None:
        """Close the socket with a TCP reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
