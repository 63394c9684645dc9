"""Serves one OpenAPI document of all services.

The services are asked when somebody asks for the document, each for at most `TIMEOUT_S` and `LIMIT` bytes,
and the result is kept for `FRESH_S`. One that has no document, or an unusable one, is left out and named.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from msctl.clock import Clock
from msctl.gateway.message.headers import Fields
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.gateway.message.response_fields import Edits
from msctl.gateway.message.trace_context import request_id, traceparent
from msctl.gateway.policies.deadline import Deadline, DeadlineTimer
from msctl.gateway.proxy import Proxy
from msctl.gateway.request.body import NO_BODY
from msctl.gateway.request.buffered import BufferedExchange
from msctl.gateway.request.gateway_exchange import GatewayExchange
from msctl.gateway.request.plan import Planner
from msctl.gateway.routing.openapi import (
    Document,
    ServiceDocument,
    UnusableDocumentError,
    check,
    join,
    places_of,
)
from msctl.gateway.routing.routes import Rule
from msctl.gateway.upstream.errors import BrokenResponseError
from msctl.http.date import http_date
from msctl.model.exchange import ClientGoneError, Exchange, RequestError

PATH = "/openapi.json"
"""Where a service has its document, as FastAPI does."""
LIMIT = 4 * 1024 * 1024
TIMEOUT_S = 2.0
FRESH_S = 10.0
LEFT_OUT = "x-msctl-left-out"
"""The field of the document that names the services without one, each with the reason."""


@dataclass(frozen=True, slots=True)
class _Kept:
    until: float
    body: bytes


class ApiDocuments:
    """The joined document of one configuration."""

    def __init__(self, planner: Planner, proxy: Proxy, rules: Sequence[Rule], clock: Clock) -> None:
        self._planner = planner
        self._proxy = proxy
        self._now = clock.monotonic
        self._services: dict[str, list[Rule]] = {}
        for rule in rules:
            if rule.spec.service:
                self._services.setdefault(rule.spec.service, []).append(rule)
        self._kept: _Kept | None = None
        self._lock = asyncio.Lock()

    async def answer(self, exchange: Exchange, timer: DeadlineTimer) -> None:
        """Answer a request for the document; raises ProblemError (405) unless it is GET or HEAD."""
        if exchange.head.method not in ("GET", "HEAD"):
            allow = ((b"Allow", b"GET, HEAD"),)
            raise ProblemError(Problem(405, "The OpenAPI document allows only GET and HEAD.", fields=allow))
        async with self._lock:
            kept = self._kept
            if kept is None or kept.until <= self._now():
                body = await self._join(exchange, timer)
                kept = self._kept = _Kept(self._now() + FRESH_S, body)
        fields: Fields = [(b"Content-Type", b"application/json"), (b"Date", http_date())]
        exchange.respond(200, b"OK", Edits(request_id()).sign(fields), kept.body)

    async def _join(self, exchange: Exchange, timer: DeadlineTimer) -> bytes:
        left_out: dict[str, str] = {}

        async def fetch(service: str, rules: Sequence[Rule]) -> ServiceDocument | None:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    document = await self._fetch(rules[0], exchange, timer)
            except TimeoutError:
                left_out[service] = f"no document within {TIMEOUT_S:g} s"
            except ProblemError as error:
                left_out[service] = error.problem.detail
            except (UnusableDocumentError, BrokenResponseError) as error:
                left_out[service] = str(error)
            except (RequestError, ClientGoneError) as error:
                left_out[service] = str(error)
            else:
                places = places_of([(rule.spec.path, rule.spec.strip_prefix) for rule in rules])
                return ServiceDocument(service, places, document)
            return None

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(fetch(name, rules)) for name, rules in self._services.items()]
        found = [one for task in tasks if (one := task.result()) is not None]
        # In a thread: documents can be long.
        return await asyncio.to_thread(_encode, found, left_out)

    async def _fetch(self, rule: Rule, exchange: Exchange, timer: DeadlineTimer) -> Document:
        plan = self._planner.own(rule, PATH)
        memory = BufferedExchange(exchange, plan.head, LIMIT)
        out = GatewayExchange(memory)
        out.request_id = request_id()
        out.traceparent = traceparent(plan.facts.trace)
        out.forward(plan, NO_BODY, Deadline(timer))
        await self._proxy.forward(out)
        if memory.too_long:
            raise UnusableDocumentError(f"{PATH} is longer than {LIMIT} bytes")
        if memory.status != 200:
            raise UnusableDocumentError(f"{PATH} answered {memory.status}")
        try:
            return check(await asyncio.to_thread(msgspec.json.decode, memory.data))
        except msgspec.DecodeError:
            raise UnusableDocumentError(f"{PATH} is not JSON") from None


def _encode(documents: Sequence[ServiceDocument], left_out: dict[str, str]) -> bytes:
    usable: list[ServiceDocument] = []
    for one in documents:
        try:
            join("", "", [one])
        except UnusableDocumentError as error:
            left_out[one.service] = str(error)
        else:
            usable.append(one)
    document = join("The services of the gateway", "1", usable)
    if left_out:
        document[LEFT_OUT] = dict(sorted(left_out.items()))
    return msgspec.json.encode(document)
