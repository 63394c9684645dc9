"""Takes messages with basic.get, many requests in flight: one at a time costs a round trip each."""

from __future__ import annotations

import asyncio
import contextlib
import struct

import pamqp.frame
from aiormq.abc import ChannelFrame
from aiormq.channel import Channel
from pamqp.base import Frame
from pamqp.commands import Basic

from msctl.amqp.connection import Connection, end_of
from msctl.amqp.delivery import BASIC, Deliveries, Delivery
from msctl.amqp.frame_stream import METHOD
from msctl.amqp.methods import BasicGet
from msctl.errors import MsctlError

_METHOD = struct.Struct(">I")
_GET_OK = (BASIC << 16) | 71
_GET_EMPTY = (BASIC << 16) | 72
_COUNT_SIZE = 4
"""Bytes of the queue's message count, at the end of basic.get-ok."""


class _Answers(Deliveries):
    """The sink of a channel on which only basic.get is used: `arrived` has the messages."""

    def __init__(self) -> None:
        super().__init__()
        self.empty = 0

    def frame(self, kind: int, data: bytes, start: int, end: int) -> bool:
        if kind != METHOD:
            return super().frame(kind, data, start, end)
        method = _METHOD.unpack_from(data, start)[0]
        if method == _GET_EMPTY:
            self.empty += 1
            return True
        if method != _GET_OK:
            return False
        self.begin(data, start + 4 + 8, end - _COUNT_SIZE)
        return True


class Gets:
    """Takes messages from one queue, over its own channel, without acknowledging them."""

    def __init__(self, connection: Connection, channel: Channel, queue: str) -> None:
        self._connection = connection
        self._channel = channel
        self._queue = queue
        self._answers = _Answers()
        self._wake = asyncio.Event()
        self._answers.wake = self._wake.set
        self._ended: MsctlError | None = None
        self._last = 0
        connection.frames.attach(channel.number, self._answers)
        self._watch = asyncio.create_task(self._watch_channel())

    @classmethod
    async def open(cls, connection: Connection, queue: str) -> Gets:
        return cls(connection, await connection.channel(), queue)

    async def take(self, most: int) -> list[tuple[int, Delivery]]:
        """Take up to `most` messages, each with its delivery tag; fewer if the queue has no more.

        Raises BrokerRefusedError, BrokerAwayError and TimedOutError.
        """
        answers = self._answers
        expected = answers.empty + len(answers.arrived) + most
        await self._send(*[BasicGet(queue=self._queue)] * most)
        while answers.empty + len(answers.arrived) < expected:
            if self._ended is not None:
                raise self._ended
            self._wake.clear()
            await self._connection.ask(self._wake.wait())
        taken = list(enumerate(answers.arrived, self._last + 1))
        self._last += len(taken)
        answers.arrived.clear()
        return taken

    async def ack(self, tags: list[int], *, multiple: bool) -> None:
        """Acknowledge messages; with `multiple`, all up to the last of `tags`."""
        if multiple:
            await self._send(*(Basic.Ack(tag, multiple=True) for tag in tags[-1:]))
        else:
            await self._send(*(Basic.Ack(tag) for tag in tags))

    async def close(self) -> None:
        """Close the channel, which returns what was not acknowledged. Does not raise if it is gone."""
        self._watch.cancel()
        await asyncio.wait([self._watch])
        self._connection.frames.detach(self._channel.number)
        if self._connection.is_open and not self._channel.is_closed:
            with contextlib.suppress(MsctlError):
                await self._connection.ask(self._channel.close())

    async def _send(self, *methods: Frame) -> None:
        if not methods:
            return
        if self._ended is not None:
            raise self._ended
        encoded: dict[int, bytes] = {}
        parts = []
        for method in methods:
            part = encoded.get(id(method))
            if part is None:
                part = encoded[id(method)] = pamqp.frame.marshal(method, self._channel.number)
            parts.append(part)
        drained = asyncio.get_running_loop().create_future()
        frame = ChannelFrame(payload=b"".join(parts), should_close=False, drain_future=drained)
        await self._channel.write_queue.put(frame)
        await self._connection.ask(drained)

    async def _watch_channel(self) -> None:
        self._ended = await self._connection.reason(await end_of(self._channel))
        self._wake.set()
