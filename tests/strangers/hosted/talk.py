"""Talks to the shop's chat with a client of `websockets`, which offers compression unless told otherwise."""

import asyncio
import sys

import websockets


async def main(url: str) -> None:
    async with websockets.connect(url, proxy=None) as socket:
        for text in ("hi", "", "long " * 100_000, "hi"):
            await socket.send(text)
            assert await socket.recv() == f"echo {text}"
        print(*(extension.name for extension in socket.protocol.extensions))


asyncio.run(main(sys.argv[1]))
