"""Forward authentication: asks another service whether a request may pass, before it is forwarded."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from urllib.parse import urlsplit

from msctl.gateway.message.problems import Problem, ProblemError
from msctl.gateway.own_request import own_request, while_client_waits
from msctl.gateway.policies.deadline import DeadlineTimer
from msctl.gateway.policies.forward_auth import (
    MAX_ANSWER,
    admitted_fields,
    allows,
    question_fields,
    relayed_fields,
)
from msctl.gateway.proxy import Proxy
from msctl.gateway.request.buffered import BufferedExchange
from msctl.gateway.request.forwarded import ForwardedHead, Plan
from msctl.gateway.request.gateway_exchange import GatewayExchange
from msctl.gateway.request.plan import Planner
from msctl.gateway.request.validation import FieldFacts
from msctl.gateway.upstream.errors import AttemptError, BrokenResponseError
from msctl.gateway.upstream.remote import RemoteUpstream
from msctl.model.exchange import ClientGoneError, RequestError
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_policies import ForwardAuthSpec

_NAME = "forward_auth"


class ForwardAuth:
    """Asks the authenticators of all routes."""

    def __init__(self) -> None:
        self._upstreams: dict[str, RemoteUpstream] = {}

    async def ask(
        self,
        spec: ForwardAuthSpec,
        plan: Plan,
        exchange: GatewayExchange,
        planner: Planner,
        proxy: Proxy,
        timer: DeadlineTimer,
    ) -> Plan | None:
        """Return the plan of an allowed request; None once the authenticator's refusal was relayed.

        Raises ProblemError (502, 503, 504) if it does not answer.
        """
        received = exchange.received
        peer = (received.client[0], received.scheme)
        told = planner.unedited(plan, received.head, peer, received.extra)
        fields = question_fields(spec, told, plan.head.method, plan.received_target)
        question = self._question(spec, plan, fields, planner)
        memory = BufferedExchange(exchange.received, question.head, MAX_ANSWER)
        with while_client_waits(exchange, timer):
            await self._answer(spec, own_request(exchange, memory, question, timer), proxy)
        if memory.too_long:
            raise _problem(502, f"sent more than {MAX_ANSWER} bytes", "http_response_body_size")
        if not allows(memory.status):
            self._relay(exchange, memory)
            return None
        if not spec.response_headers:
            return plan
        forwarded = admitted_fields(spec, plan.forwarded, memory.fields)
        head = ForwardedHead(plan.head.method, plan.head.target, plan.head.host, forwarded, plan.facts)
        return plan.replace(forwarded=forwarded, head=head)

    async def close(self) -> None:
        upstreams, self._upstreams = self._upstreams, {}
        for upstream in upstreams.values():
            await upstream.close()

    def reconfigure(self, spec: GatewaySpec) -> None:
        """Apply new limits to the connections."""
        for upstream in self._upstreams.values():
            upstream.reconfigure(
                pool_size=spec.pool_size, pool_idle=spec.pool_idle, retry_body=spec.retry_body
            )

    def _question(
        self, spec: ForwardAuthSpec, plan: Plan, fields: list[tuple[bytes, bytes]], planner: Planner
    ) -> Plan:
        if spec.path is not None:
            try:
                return planner.branch(spec.path, plan, fields)
            except ProblemError as error:
                why = error.problem.detail.removesuffix(".")
                raise _problem(502, f"has no route: {why}", "destination_not_found") from error
        parts = urlsplit(spec.url or "")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        facts = FieldFacts(parts.netloc, None, False, False, None, None, plan.facts.trace)
        head = ForwardedHead("GET", target, parts.netloc, fields, facts)
        return plan.replace(head=head, facts=facts, forwarded=fields)

    async def _answer(self, spec: ForwardAuthSpec, out: GatewayExchange, proxy: Proxy) -> None:
        """Send the question; raises ProblemError without an answer in time."""
        try:
            async with asyncio.timeout(spec.timeout):
                await self._send(spec, out, proxy)
        except TimeoutError:
            what = f"did not answer within {spec.timeout:g} s"
            raise _problem(504, what, "http_response_timeout") from None
        except (BrokenResponseError, ClientGoneError, RequestError) as error:
            raise _problem(502, f"did not answer: {error}", "connection_terminated") from error

    async def _send(self, spec: ForwardAuthSpec, out: GatewayExchange, proxy: Proxy) -> None:
        if spec.url is None:
            proxy.steer(out, out.head.fields)
            await proxy.forward(out)
            return
        upstream = self._upstreams.get(spec.url) or await self._connect(spec.url)
        try:
            try:
                await upstream.send(out)
            except AttemptError as error:
                if not error.stale:
                    raise
                await upstream.send(out, fresh=True)
        except AttemptError as error:
            raise ProblemError(error.problem) from error

    async def _connect(self, url: str) -> RemoteUpstream:
        parts = urlsplit(url)
        tls = None
        if parts.scheme == "https":
            from msctl.tls.upstream import client_context

            tls = await asyncio.to_thread(client_context, None)
        spec = GatewaySpec()
        made = RemoteUpstream(
            "",
            _NAME,
            f"{parts.scheme}://{parts.netloc}",
            pool_size=spec.pool_size,
            pool_idle=spec.pool_idle,
            retry_body=spec.retry_body,
            tls=tls,
        )
        return self._upstreams.setdefault(url, made)

    @staticmethod
    def _relay(exchange: GatewayExchange, memory: BufferedExchange) -> None:
        try:
            reason = HTTPStatus(memory.status).phrase.encode()
        except ValueError:
            reason = b""
        fields = exchange.edited(relayed_fields(memory.fields))
        exchange.received.respond(memory.status, reason, fields, memory.data)


def _problem(status: int, what: str, error: str) -> ProblemError:
    return ProblemError(Problem(status, f"The service that allows requests {what}.", error=error))
