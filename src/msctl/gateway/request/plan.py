"""From a request's head to a plan: admitted, routed, its fields made ready.

Pure (it makes aiohttp's kind of headers and URL, and knows no more of it), and therefore remembered:
clients send the same head again and again, and the plan for it is the same each time. What differs
with every request (ids, guards, the instance) is not in a plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from multidict import CIMultiDict
from yarl import URL

from msctl.gateway.message.headers import Field, Fields, Hop, Trust, edit, request_fields, text, values
from msctl.gateway.message.http1 import serialize_head
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.gateway.message.target import Target, host_name
from msctl.gateway.message.trace_context import Trace
from msctl.gateway.request.validation import LIMITED, Admitted, admit
from msctl.gateway.routing.route_settings import Settings, unrouted
from msctl.gateway.routing.routes import NOWHERE, Match, RouteTable, upstream_path
from msctl.model.project import Balance, GatewaySpec, HeaderEdit

MEMORY = 1024
"""Plans remembered; when there are as many, all are forgotten."""

MAX_REMEMBERED = 4096
"""Bytes of a head that is worth remembering."""


class RequestHead:
    """A request's head as it is forwarded, but for what is new with every request.

    Made once for all requests that begin with the same head. `target` is in origin form; `fields` are
    without Host and framing; `host` is the client's Host, empty where it sent none (HTTP/1.0).
    """

    __slots__ = (
        "_headers",
        "chunked",
        "fields",
        "host",
        "length",
        "method",
        "prefix",
        "target",
        "upgrade",
        "url",
    )

    def __init__(
        self,
        method: str,
        target: str,
        host: str,
        fields: Fields,
        *,
        length: int | None,
        chunked: bool,
        upgrade: str | None,
    ) -> None:
        self.method = method
        self.target = target
        self.host = host
        self.length = length
        self.chunked = chunked
        self.upgrade = upgrade
        path, mark, query = target.partition("?")
        self.url = URL.build(path=path, query_string=query if mark else "", encoded=True)
        whole: Fields = [(b"Host", host.encode("latin-1")), *fields] if host else list(fields)
        if chunked:
            whole.append((b"Transfer-Encoding", b"chunked"))
        elif length is not None:
            whole.append((b"Content-Length", b"%d" % length))
        if upgrade is not None:
            whole += [(b"Connection", b"Upgrade"), (b"Upgrade", upgrade.encode())]
        self.fields = whole
        line = f"{method} {target} HTTP/1.1".encode("utf-8", "surrogateescape")
        self.prefix = serialize_head(line, whole)[:-2]
        self._headers: CIMultiDict[str] | None = None

    def headers(self, request_id: str, traceparent: str) -> CIMultiDict[str]:
        """The whole head as aiohttp would have parsed it."""
        template = self._headers
        if template is None:
            template = self._headers = CIMultiDict([(text(name), text(value)) for name, value in self.fields])
        headers = template.copy()
        headers["X-Request-Id"] = request_id
        headers["traceparent"] = traceparent
        return headers


Origin = tuple[str, str]
"""The address of a connection's other end (empty for a Unix socket), and the scheme spoken on it."""


class Plan(NamedTuple):
    """What the gateway does with a request that begins like this.

    `client` is the address of who asks, as far as it can be known; `forwarded` are the fields that go
    on, before framing. `own` are the fields of the 200 by which the gateway answers a request that
    goes no further, None for one that does.
    """

    settings: Settings
    match: Match
    target: Target
    scheme: str
    head: RequestHead
    length: int | None
    chunked: bool
    expects_continue: bool
    request_id: str | None
    trace: Trace | None
    client: str
    forwarded: Fields
    close: bool
    own: Fields | None = None


class Planner:
    """Makes plans, and remembers them."""

    def __init__(
        self, table: RouteTable, known: Sequence[Settings], trust: Trust, pseudonym: str, spec: GatewaySpec
    ) -> None:
        self.table = table
        self._known = known
        self._unrouted = unrouted(spec, NOWHERE.rule.spec)
        self._trust = trust
        self._pseudonym = pseudonym
        self._forwarded = spec.forwarded
        self._memory: dict[tuple[object, ...], Plan] = {}

    def plan(
        self,
        method: str,
        raw_target: str,
        version: tuple[int, int],
        fields: Sequence[Field],
        origin: Origin,
    ) -> Plan:
        """Raises ProblemError for a request that is refused or that no route takes."""
        key = (method, raw_target, version, fields, origin)
        plan = self._memory.get(key)
        if plan is None:
            plan = self._make(method, raw_target, version, fields, origin)
            if len(raw_target) + sum(len(name) + len(value) for name, value in fields) <= MAX_REMEMBERED:
                if len(self._memory) >= MEMORY:
                    self._memory.clear()
                self._memory[key] = plan
        return plan

    def _make(
        self,
        method: str,
        raw_target: str,
        version: tuple[int, int],
        fields: Sequence[Field],
        origin: Origin,
    ) -> Plan:
        admitted = admit(method, raw_target, version, fields, self._pseudonym)
        match = self.route(method, admitted, fields)
        own = self.own(method, admitted, fields) if method in LIMITED else None
        known = self._unrouted if match is NOWHERE else self._known[match.rule.order]
        peer, scheme = origin
        hop = Hop(
            peer,
            scheme,
            admitted.host,
            self._pseudonym,
            f"{version[0]}.{version[1]}",
            self._trust.trusts(peer),
            self._forwarded,
        )
        out = request_fields(fields, hop, keep_trace=admitted.trace is not None)
        if admitted.max_forwards:
            out = edit(out, HeaderEdit(set={"Max-Forwards": str(admitted.max_forwards - 1)}))
        client = _client(fields, peer) if hop.trusted else peer
        plan = self._plan(method, admitted, match, known, out, scheme, client)
        if own is None:
            return plan
        # Whoever waits for a 100 may or may not send its body after the answer.
        return plan._replace(
            settings=known._replace(guarded=True), own=own, close=plan.close or plan.expects_continue
        )

    def branch(self, target: str, plan: Plan, fields: Fields) -> Plan:
        """The plan of a request of the gateway's own, made on behalf of the one planned by `plan`."""
        host = plan.head.host
        own: list[Field] = [(b"Host", host.encode("latin-1"))]
        admitted = admit("GET", target, (1, 1) if host else (1, 0), own if host else [], self._pseudonym)
        match = self.route("GET", admitted, fields)
        known = self._known[match.rule.order]
        if known.route.redirect is not None or known.route.compose is not None:
            raise ProblemError(Problem(502, f"{target} leads to no service."))
        return self._plan("GET", admitted, match, known, fields, plan.scheme, plan.client)

    def route(self, method: str, admitted: Admitted, fields: Sequence[Field]) -> Match:
        """The route, or NOWHERE for a request about the server as a whole.

        Raises ProblemError: 404 with the nearest routes, or 405 with the methods that there are.
        """
        target = admitted.target
        if target.asterisk:
            return NOWHERE
        host = host_name(admitted.host)
        elements = target.elements
        match = self.table.match(method, host, elements, fields)
        if match is not None:
            return match
        if allowed := self.table.methods(host, elements, fields):
            names = ", ".join(allowed)
            raise ProblemError(
                Problem(
                    405, f"{target.path} takes {names}, not {method}.", fields=((b"Allow", names.encode()),)
                )
            )
        nearest = self.table.nearest(target.path)
        hint = f" The nearest routes are {', '.join(nearest)}." if nearest else " The gateway has no routes."
        raise ProblemError(
            Problem(
                404, f"No route takes {method} {target.path}.{hint}", extra={"nearest_routes": list(nearest)}
            )
        )

    def own(self, method: str, admitted: Admitted, fields: Sequence[Field]) -> Fields | None:
        """The answer's fields where the gateway is who an OPTIONS request is for: it asks about the
        server as a whole (RFC 9110 §9.3.7), or may go no further (§7.6.2). None where it is not.

        Raises ProblemError (405) for a TRACE request that may go no further: sent back, its fields
        would show a script what the browser hides from it.
        """
        target = admitted.target
        if target.asterisk:
            return _allow(self.table.all_methods())
        if admitted.max_forwards != 0:
            return None
        allow = _allow(self.table.methods(host_name(admitted.host), target.elements, fields))
        if method == "TRACE":
            detail = "Max-Forwards is 0, and the gateway itself does not answer TRACE."
            raise ProblemError(Problem(405, detail, fields=tuple(allow)))
        return allow

    def balance(self, match: Match) -> Balance:
        return self._known[match.rule.order].balance

    @staticmethod
    def _plan(
        method: str,
        admitted: Admitted,
        match: Match,
        known: Settings,
        fields: Fields,
        scheme: str,
        client: str,
    ) -> Plan:
        target = admitted.target
        if known.route.request_headers is not None:
            fields = edit(fields, known.route.request_headers)
        path = upstream_path(match.rule, target.path)
        if path != target.path and (match.rule.spec.strip_prefix or match.rule.spec.rewrite):
            fields = [*fields, (b"X-Forwarded-Prefix", match.rule.spec.path.encode())]
        head = RequestHead(
            method,
            path if target.query is None else f"{path}?{target.query}",
            admitted.host,
            fields,
            length=admitted.length,
            chunked=admitted.chunked,
            upgrade=admitted.upgrade,
        )
        return Plan(
            known,
            match,
            target,
            scheme,
            head,
            admitted.length,
            admitted.chunked,
            admitted.expects_continue,
            admitted.request_id,
            admitted.trace,
            client,
            fields,
            admitted.close,
        )


def _allow(methods: Sequence[str]) -> Fields:
    return [(b"Allow", ", ".join(name for name in methods if name != "TRACE").encode())]


def _client(fields: Sequence[Field], peer: str) -> str:
    """Who a trusted peer says it asks for: the last that was added, which is what that peer saw."""
    lines = values(fields, b"x-forwarded-for")
    if not lines:
        return peer
    return lines[-1].rpartition(b",")[2].strip().decode("latin-1") or peer
