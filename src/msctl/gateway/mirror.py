"""Copies of requests for another service, whose answers are dropped.

A copy never affects the request that it copies: it is sent by a task of its own, its failures are counted
nowhere but at its own service, and beyond MAX_COPIES at once copies are left out.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from msctl.gateway.message.problems import ProblemError
from msctl.gateway.own_request import own_request
from msctl.gateway.policies.deadline import DeadlineTimer
from msctl.gateway.proxy import Proxy
from msctl.gateway.request.body import ForwardedBody
from msctl.gateway.request.buffered import BufferedExchange
from msctl.gateway.request.forwarded import Plan
from msctl.gateway.request.gateway_exchange import GatewayExchange
from msctl.gateway.upstream.errors import BrokenResponseError
from msctl.http.body import EMPTY
from msctl.model.exchange import RequestError
from msctl.model.route_policies import MirrorSpec

MAX_COPIES = 64
MAX_SECONDS = 30.0
"""How long a copy may take."""


class Mirror:
    """Sends copies in the background."""

    def __init__(self, log: logging.Logger, chance: Callable[[], float] = random.random) -> None:
        self._log = log
        self._chance = chance
        self._tasks: set[asyncio.Task[None]] = set()
        self.left_out = 0

    def copies(self, spec: MirrorSpec, plan: Plan) -> bool:
        """Return whether a request is to be copied; its body is then at most `spec.max_body` long."""
        facts = plan.facts
        if facts.upgrade is not None or facts.chunked or (facts.length or 0) > spec.max_body:
            return False
        if spec.share < 1 and self._chance() >= spec.share:
            return False
        if len(self._tasks) >= MAX_COPIES:
            if not self.left_out:
                self._log.warning(
                    "%s: %d copies of requests are unanswered; more are left out", spec.service, MAX_COPIES
                )
            self.left_out += 1
            return False
        return True

    def send(
        self,
        spec: MirrorSpec,
        plan: Plan,
        original: GatewayExchange,
        data: bytes,
        proxy: Proxy,
        timer: DeadlineTimer,
    ) -> None:
        """Send a copy of `original` with the body `data`."""
        memory = BufferedExchange(original.received, plan.head, limit=None)
        body = ForwardedBody(EMPTY, length=plan.facts.length, limit=0)
        body.kept = data
        out = own_request(original, memory, plan, timer, body)
        out.service = spec.service
        task = asyncio.get_running_loop().create_task(self._run(out, proxy))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, out: GatewayExchange, proxy: Proxy) -> None:
        try:
            async with asyncio.timeout(MAX_SECONDS):
                await proxy.forward(out)
        except (ProblemError, RequestError, BrokenResponseError, ConnectionError, TimeoutError) as error:
            self._log.debug("the copy of a request for %s failed: %s", out.service, error)
        except Exception:  # noqa: BLE001 - a bug of ours costs this copy only
            self._log.exception("the copy of a request for %s failed", out.service)
