"""Whose silence it is when a request's time is over: the client's is never charged to the instance."""

from __future__ import annotations

from msctl.gateway.request.gateway_exchange import GatewayExchange
from msctl.model.exchange import ClientGoneError, RequestError

REQUEST_BODY = "request body"
"""The deadline's stage while the client's body is waited for."""
CLIENT_READING = "client reading"
"""The stage while the client is waited for to read the response."""


def late_client(out: GatewayExchange, stage: str) -> Exception | None:
    """Return the error if it was the client that was waited for; aborts a response that has started."""
    seconds = out.limits.idle_timeout
    if not out.started:
        if stage != REQUEST_BODY:
            return None
        return RequestError(408, f"No data of the request's body arrived for {seconds:g} s.")
    if out.writing_paused or stage == CLIENT_READING:
        what = "read nothing of the response"
    elif out.body.waiting or stage == REQUEST_BODY:
        what = "sent nothing of its body"
    else:
        return None
    out.abort()
    return ClientGoneError(f"the client {what} for {seconds:g} s")
