"""Which failures lead to another attempt, and on which connection it is made."""

from __future__ import annotations

import asyncio

import pytest

from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import RouteSpec
from tests.support.recording_upstream import OK, Exchange, RecordingUpstream
from tests.unit.gateway.harness import running


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_a_request_that_was_not_answered_in_time_is_not_sent_again(method: str) -> None:
    async def silent_at_first(exchange: Exchange) -> None:
        await exchange.head()
        if len(upstream.exchanges) > 1:
            await exchange.send(OK)
        await exchange.eof()

    upstream = await RecordingUpstream(silent_at_first).start()
    spec = GatewaySpec(retries=2, response_timeout=0.2, backoff_min=0.001, backoff_max=0.002)
    async with running(RouteSpec("/x", "x"), spec=spec) as gateway:
        gateway.announce("x", upstream.url)
        reply = await gateway.ask(method, "/x")
    await upstream.stop()
    # What is slow is under load, and its client has waited long enough.
    assert (reply.status, reply.json()["attempt"]) == (504, 1)
    assert len(upstream.exchanges) == 1


async def test_after_a_stale_connection_a_fresh_one_is_used() -> None:
    async def closes_on_the_second_request(exchange: Exchange) -> None:
        data = await exchange.head()
        if len(upstream.exchanges) == 1:
            await upstream.connection(2)  # so that both are open, and idle later
        await exchange.send(OK)
        await exchange.until(b"\r\n\r\n", after=len(data))

    upstream = await RecordingUpstream(closes_on_the_second_request).start()
    spec = GatewaySpec(retries=1, breaker_failures=1, pool_size=2)
    async with running(RouteSpec("/x", "x"), spec=spec) as gateway:
        gateway.announce("x", upstream.url)
        replies = await asyncio.gather(gateway.get("/x"), gateway.get("/x"))
        assert [reply.status for reply in replies] == [200, 200]
        # The other idle connection is as old as the one that failed.
        assert (await gateway.get("/x")).status == 200
        assert len(upstream.exchanges) == 3
        # That a server closes an idle connection is no failure of it.
        assert gateway.gateway.targets()[0].breaker == "closed"
    await upstream.stop()
