"""Requests of the gateway's own on behalf of a client: branches of documents, questions, copies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

from msctl.gateway.message.trace_context import traceparent
from msctl.gateway.policies.deadline import Deadline, DeadlineError, DeadlineTimer
from msctl.gateway.request.body import NO_BODY, ForwardedBody
from msctl.gateway.request.buffered import BufferedExchange
from msctl.gateway.request.forwarded import Plan
from msctl.gateway.request.gateway_exchange import GatewayExchange
from msctl.gateway.upstream.errors import CLIENT_GONE
from msctl.model.exchange import ClientGoneError


def own_request(
    original: GatewayExchange,
    memory: BufferedExchange,
    plan: Plan,
    timer: DeadlineTimer,
    body: ForwardedBody = NO_BODY,
) -> GatewayExchange:
    """Return the exchange of `plan`, in the trace of `original`; `memory` gets its response."""
    out = GatewayExchange(memory)
    out.request_id = original.request_id
    out.span = span = original.span
    out.traceparent = traceparent(plan.facts.trace) if span is None else span.traceparent
    out.forward(plan, body, Deadline(timer))
    return out


@contextlib.contextmanager
def while_client_waits(exchange: GatewayExchange, timer: DeadlineTimer) -> Iterator[None]:
    """Cancel the block and raise ClientGoneError once the client of `exchange` has left."""
    watch = Deadline(timer)
    exchange.on_disconnect(partial(watch.interrupt, CLIENT_GONE))
    try:
        with watch:
            yield
    except DeadlineError as error:
        raise ClientGoneError("the client closed the connection") from error
    finally:
        exchange.on_disconnect(None)
