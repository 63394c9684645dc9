"""Upstreams in this process: the handler of a hosted service serves the exchange itself.

A handler is not cancelled when its client leaves: it runs to its end, as behind a socket.
"""

from __future__ import annotations

import logging
from functools import partial

from msctl.gateway.message.problems import Problem
from msctl.gateway.policies.deadline import DeadlineError
from msctl.gateway.request.gateway_exchange import EVENT_STREAM, GatewayExchange
from msctl.gateway.request.upgrade import HostedUpgrade
from msctl.gateway.upstream.errors import ApplicationFailedError, AttemptError, BrokenResponseError
from msctl.gateway.upstream.late_client import REQUEST_BODY, late_client
from msctl.http.websocket_frames import GOING_AWAY
from msctl.model.exchange import ClientGoneError, Handler, RequestError, ResponseCutError
from msctl.telemetry.logs.hub import current_service


class HostedUpstream:
    """An instance that runs in this process."""

    def __init__(self, service: str, instance: str, handler: Handler, *, log: logging.Logger) -> None:
        self.address = "in process"
        self._service = service
        self._instance = instance
        self._handler = handler
        self._log = log
        self._streaming: set[GatewayExchange] = set()
        """The exchanges of upgraded connections that are open."""

    @property
    def pool_open(self) -> int:
        return 0

    @property
    def pool_waiting(self) -> int:
        return 0

    async def send(self, out: GatewayExchange, *, fresh: bool = False) -> None:  # noqa: ARG002 - no connection
        deadline = out.deadline
        deadline.progress = out
        out.body.rewind()
        deadline.extend(out.limits.response_timeout, "response")
        if not out.body.complete:
            out.body.on_waiting = partial(_await_body, out)
        upgrades = out.head.upgrade is not None
        if upgrades:
            self._streaming.add(out)
        try:
            with deadline:
                await self._handler(out)
        except DeadlineError as error:
            if error.stage == EVENT_STREAM and not out.disconnected:
                out.finish()
            else:
                raise self._late(out, error.stage) from error
        except RequestError:
            raise
        except Exception as error:
            raise self._failed(error, out) from error
        finally:
            out.body.on_waiting = None
            if upgrades:
                self._streaming.discard(out)
        if not out.finished and out.upgraded is None:
            raise self._unfinished(out)

    def _failed(self, error: Exception, out: GatewayExchange) -> Exception:
        """Convert an error of the application; a response that has started is aborted."""
        if isinstance(error, ResponseCutError):
            return ApplicationFailedError(str(error))
        if isinstance(error, ConnectionError) and out.disconnected:
            return ClientGoneError("the client closed the connection")
        token = current_service.set(self._service)
        self._log.error(
            "%s %s: the handler of %s raised %s",
            out.head.method,
            out.head.target.partition("?")[0],
            self._service,
            type(error).__name__,
            exc_info=error,
        )
        current_service.reset(token)
        return self._broken(out, f"{self._service} failed during its response")

    def _unfinished(self, out: GatewayExchange) -> Exception:
        """Return the error for a handler that returned without the end of a response."""
        if out.disconnected:
            return ClientGoneError("the client closed the connection")
        return self._broken(out, f"{self._service} did not end its response")

    def _broken(self, out: GatewayExchange, reason: str) -> Exception:
        if out.started:
            out.abort()
            return ApplicationFailedError(reason)
        return AttemptError(
            Problem(
                500,
                f"The service {self._service} failed to handle the request; its log has the traceback.",
                error="proxy_internal_response",
                service=self._service,
                instance=self._instance,
            ),
            answered=True,
        )

    def _late(self, out: GatewayExchange, stage: str) -> Exception:
        if (error := late_client(out, stage)) is not None:
            return error
        if out.started:
            out.abort()
            return BrokenResponseError(f"{self._service} sent nothing for {out.limits.idle_timeout:g} s")
        return AttemptError(
            Problem(
                504,
                f"{self._instance} did not answer within {out.limits.response_timeout:g} s.",
                error="http_response_timeout",
                service=self._service,
                instance=self._instance,
            )
        )

    def reconfigure(self, *, pool_size: int, pool_idle: float, retry_body: int) -> None:
        """Do nothing: there are no connections."""

    async def drain(self) -> None:
        upgrades = [out.upgraded for out in self._streaming]
        for upgraded in upgrades:
            if isinstance(upgraded, HostedUpgrade):
                upgraded.send_close(GOING_AWAY)

    async def close(self) -> None:
        return None


def _await_body(out: GatewayExchange) -> None:
    """Give the client its time for the body while the service waits for it, and then the service its own."""
    if out.started:
        return
    if out.body.waiting:
        out.deadline.extend(out.limits.idle_timeout, REQUEST_BODY)
    else:
        out.deadline.extend(out.limits.response_timeout, "response")
