"""Heartbeats: sent at the client's interval, answered by life, and silence ends the connection."""

from __future__ import annotations

from pamqp.heartbeat import Heartbeat

from tests.support.broker import Connect


async def test_server_sends_heartbeats_and_drops_a_client_that_sends_none(connect: Connect) -> None:
    probe = await connect(heartbeat=1)
    await probe.eof()  # silence of two to three intervals, with a heartbeat each half of one
    for _ in range(3):
        assert isinstance(await probe.next(0), Heartbeat)


async def test_client_that_sends_heartbeats_is_kept(connect: Connect) -> None:
    probe = await connect(heartbeat=1)
    for _ in range(7):  # one for each of the server's, for more than three intervals
        assert isinstance(await probe.next(0), Heartbeat)
        probe.send(Heartbeat())
    channel = await probe.channel()
    assert await channel.queue()


async def test_heartbeat_is_accepted_where_none_were_agreed_on(connect: Connect) -> None:
    probe = await connect(heartbeat=0)
    probe.send(Heartbeat())
    channel = await probe.channel()
    assert await channel.queue()
