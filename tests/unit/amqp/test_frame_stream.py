"""Frames go to the sink of their channel or to aiormq, whole and in order, however the bytes are cut."""

from __future__ import annotations

import asyncio
import itertools
import struct

from hypothesis import given
from hypothesis import strategies as st
from pamqp import frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from msctl.amqp.confirms import Confirms, Returned
from msctl.amqp.delivery import Deliveries
from msctl.amqp.frame_stream import FrameStream


def delivered(channel: int, body: bytes, *, room: int = 1000, key: str = "k") -> bytes:
    """basic.deliver with its content, the body in frames of `room` bytes."""
    properties = Basic.Properties(content_type="text/plain")
    parts = [
        frame.marshal(Basic.Deliver("tag", 1, True, "ex", key), channel),
        frame.marshal(ContentHeader(body_size=len(body), properties=properties), channel),
    ]
    parts += [frame.marshal(ContentBody(body[at : at + room]), channel) for at in range(0, len(body), room)]
    return b"".join(parts)


def returned(channel: int, message_id: str) -> bytes:
    properties = Basic.Properties(message_id=message_id)
    return b"".join(
        (
            frame.marshal(Basic.Return(312, "NO_ROUTE", "ex", "k"), channel),
            frame.marshal(ContentHeader(body_size=2, properties=properties), channel),
            frame.marshal(ContentBody(b"xy"), channel),
        )
    )


def feed(pieces: list[bytes], *sinks: tuple[int, Deliveries | Confirms]) -> bytes:
    """Give a stream these pieces; returns what is left for aiormq."""

    async def run() -> bytes:
        stream = FrameStream(asyncio.get_running_loop())
        for channel, sink in sinks:
            stream.attach(channel, sink)
        for piece in pieces:
            stream.feed_data(piece)
        stream.feed_eof()
        return await stream.read()

    return asyncio.run(run())


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(position % (len(data) + 1) for position in at), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


OTHER = frame.marshal(Basic.Cancel("tag"), 1) + frame.marshal(Basic.QosOk(), 1)
HEARTBEAT = frame.marshal(Heartbeat(), 0)


@given(st.lists(st.binary(max_size=40), max_size=5), st.lists(st.integers(0, 2000), max_size=6))
def test_deliveries_arrive_however_the_bytes_are_cut(bodies: list[bytes], at: list[int]) -> None:
    data = b"".join(delivered(1, body, room=7) + OTHER + delivered(2, body) + HEARTBEAT for body in bodies)
    sink = Deliveries()
    left = feed(cut(data, at), (1, sink))
    assert [delivery.body for delivery in sink.arrived] == bodies
    assert left == b"".join(OTHER + delivered(2, body) + HEARTBEAT for body in bodies)


def test_a_delivery_has_its_routing_and_properties() -> None:
    sink = Deliveries()
    feed([delivered(1, b"a") + delivered(1, b"b", key="other")], (1, sink))
    first, second = sink.arrived
    assert (first.exchange, first.routing_key, first.redelivered) == ("ex", "k", True)
    assert second.routing_key == "other"
    assert first.properties.content_type == "text/plain"


def test_confirms_and_returns_are_told_in_order() -> None:
    told: list[object] = []
    sink = Confirms(lambda *answer: told.append(answer), told.append, lambda: told.append("done"))
    data = (
        frame.marshal(Basic.Ack(3, True), 1)
        + returned(1, "id-4")
        + frame.marshal(Basic.Ack(4, False), 1)
        + frame.marshal(Basic.Nack(5, False, False), 1)
    )
    assert feed([data], (1, sink)) == b""
    assert told == [
        (3, True, True),
        Returned("id-4", "ex", "k", 312, "NO_ROUTE"),
        (4, False, True),
        (5, False, False),
        "done",
    ]


@given(st.binary(max_size=200))
def test_what_is_no_amqp_goes_on_as_it_came(data: bytes) -> None:
    assert feed([b"HTTP/1.1 400 Bad Request", data]) == b"HTTP/1.1 400 Bad Request" + data


def test_a_method_that_is_cut_short_is_left_to_aiormq() -> None:
    payload = struct.pack(">HHB", 60, 60, 200)
    short = struct.pack(">BHI", 1, 1, len(payload)) + payload + b"\xce"
    sink = Deliveries()
    assert feed([short], (1, sink)) == short
    assert not sink.arrived
