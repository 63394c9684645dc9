"""From a request's head to a plan: validated, routed, with the head to forward.

The plan cache. Clients send the same head many times, and planning costs more than the rest of the
proxy path, so `Planner` keeps plans in a dictionary. This is correct because a plan is a pure function
of its key and of the configuration:

- The key is (method, target, version, fields, peer): everything that planning reads from a request.
  `fields` are the bytes as received. `peer` (address and scheme) is part of it because X-Forwarded-For,
  X-Forwarded-Proto and the trust in forwarding fields depend on it: without it, one client would be
  forwarded with the address of another.
- The configuration is fixed for a `Planner`; a reload builds a new one, with an empty cache.
- Anything that differs between equal requests stays out of a plan: ids, trace parents, the instance,
  rate limits, whether a credential is valid at this time.

To read anything else about a request while planning (the time, a counter, a cookie jar) would break
the cache: add it to the key, or read it after planning. A plan is shared by requests, so it is
immutable, and so are its lists by convention. Refusals are not cached. The cache is bounded by
PLAN_CACHE_SIZE and MAX_CACHED_HEAD and cleared as a whole when full, which costs less per request than
an eviction order.

Pure, except that it builds the headers and URL types of aiohttp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from multidict import CIMultiDict
from yarl import URL

from msctl.gateway.message.headers import (
    Field,
    Fields,
    Hop,
    Trust,
    edit,
    request_fields,
    text,
    values,
    with_prefix,
)
from msctl.gateway.message.http1 import serialize_head
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.gateway.message.target import Target
from msctl.gateway.message.trace_context import Trace
from msctl.gateway.request.validation import LIMITED, Validated, validate
from msctl.gateway.routing.route_settings import RouteSettings, unrouted
from msctl.gateway.routing.routes import NO_ROUTE, Match, RouteTable, matched_prefix, upstream_path
from msctl.http.host_policy import KEY, HostDenial, policy_of
from msctl.model.address import host_name
from msctl.model.project import Balance, GatewaySpec, HeaderEdit

PLAN_CACHE_SIZE = 1024
"""The number of cached plans at which the cache is cleared."""

MAX_CACHED_HEAD = 4096
"""The size in bytes up to which a head is cached."""


class RequestHead:
    """A request's head as it is forwarded, without the fields that differ with every request.

    `target` is in origin form; `fields` are without Host and framing; `host` is the client's Host,
    empty if it sent none (HTTP/1.0).
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
        all_fields: Fields = [(b"Host", host.encode("latin-1")), *fields] if host else list(fields)
        if chunked:
            all_fields.append((b"Transfer-Encoding", b"chunked"))
        elif length is not None:
            all_fields.append((b"Content-Length", b"%d" % length))
        if upgrade is not None:
            all_fields += [(b"Connection", b"Upgrade"), (b"Upgrade", upgrade.encode())]
        self.fields = all_fields
        line = f"{method} {target} HTTP/1.1".encode("utf-8", "surrogateescape")
        self.prefix = serialize_head(line, all_fields)[:-2]
        self._headers: CIMultiDict[str] | None = None

    def headers(self, request_id: str, traceparent: str) -> CIMultiDict[str]:
        """Return the complete headers, as aiohttp would have parsed them."""
        template = self._headers
        if template is None:
            template = self._headers = CIMultiDict([(text(name), text(value)) for name, value in self.fields])
        headers = template.copy()
        headers["X-Request-Id"] = request_id
        headers["traceparent"] = traceparent
        return headers


Peer = tuple[str, str]
"""A connection's client address (empty for a Unix socket) and its scheme."""


class Plan(NamedTuple):
    """What the gateway does with a request.

    `client_address` is that of the original client, as far as trusted peers name it. `forwarded` are
    the fields to forward, before framing. `gateway_response` holds the fields of the 200 with which the
    gateway answers the request itself; None if the request is to be forwarded.
    """

    settings: RouteSettings
    match: Match
    target: Target
    scheme: str
    head: RequestHead
    length: int | None
    chunked: bool
    expects_continue: bool
    request_id: str | None
    trace: Trace | None
    client_address: str
    forwarded: Fields
    close: bool
    gateway_response: Fields | None = None


class Planner:
    """Plans requests, with a cache (see above)."""

    def __init__(
        self,
        table: RouteTable,
        settings: Sequence[RouteSettings],
        trust: Trust,
        pseudonym: str,
        spec: GatewaySpec,
    ) -> None:
        self.table = table
        self._settings = settings
        self._unrouted = unrouted(spec, NO_ROUTE.rule.spec)
        self._trust = trust
        self._pseudonym = pseudonym
        self._forwarded = spec.forwarded
        named = [host for rule in table.rules for host in rule.hosts]
        self._hosts = policy_of(spec.host, spec.hosts, named)
        self._cache: dict[tuple[object, ...], Plan] = {}

    def plan(
        self,
        method: str,
        raw_target: str,
        version: tuple[int, int],
        fields: Sequence[Field],
        peer: Peer,
    ) -> Plan:
        """Return the plan; raises ProblemError for a request that is refused or matches no route."""
        key = (method, raw_target, version, fields, peer)
        plan = self._cache.get(key)
        if plan is None:
            plan = self._make(method, raw_target, version, fields, peer)
            if len(raw_target) + sum(len(name) + len(value) for name, value in fields) <= MAX_CACHED_HEAD:
                if len(self._cache) >= PLAN_CACHE_SIZE:
                    self._cache.clear()
                self._cache[key] = plan
        return plan

    def _make(
        self,
        method: str,
        raw_target: str,
        version: tuple[int, int],
        fields: Sequence[Field],
        peer: Peer,
    ) -> Plan:
        validated = validate(method, raw_target, version, fields, self._pseudonym)
        self.check_host(validated)
        match = self.route(method, validated, fields)
        self.check_page(method, validated, match, fields)
        own = self.gateway_response(method, validated, fields) if method in LIMITED else None
        settings = self._unrouted if match is NO_ROUTE else self._settings[match.rule.order]
        address, scheme = peer
        hop = Hop(
            address,
            scheme,
            validated.host,
            self._pseudonym,
            f"{version[0]}.{version[1]}",
            self._trust.trusts(address),
            self._forwarded,
        )
        out = request_fields(fields, hop, keep_trace=validated.trace is not None)
        if validated.max_forwards:
            out = edit(out, HeaderEdit(set={"Max-Forwards": str(validated.max_forwards - 1)}))
        client_address = _client_address(fields, address) if hop.trusted else address
        plan = self._plan(method, validated, match, settings, out, scheme, client_address)
        if own is None:
            return plan
        # A client that waits for a 100 may or may not send its body after the response.
        return plan._replace(
            settings=settings._replace(filtered=True),
            gateway_response=own,
            close=plan.close or plan.expects_continue,
        )

    def branch(self, target: str, plan: Plan, fields: Fields) -> Plan:
        """Plan a request of the gateway's own for a branch of the composed route of `plan`."""
        host = plan.head.host
        own: list[Field] = [(b"Host", host.encode("latin-1"))]
        validated = validate("GET", target, (1, 1) if host else (1, 0), own if host else [], self._pseudonym)
        match = self.route("GET", validated, fields)
        settings = self._settings[match.rule.order]
        if settings.route.redirect is not None or settings.route.compose is not None:
            raise ProblemError(Problem(502, f"{target} leads to no service."))
        return self._plan("GET", validated, match, settings, fields, plan.scheme, plan.client_address)

    def check_host(self, validated: Validated) -> None:
        """Raise ProblemError (421) for a host that the gateway does not answer for."""
        if self._hosts is not None:
            _deny(self._hosts.check_host(host_name(validated.host)))

    def check_page(self, method: str, validated: Validated, match: Match, fields: Sequence[Field]) -> None:
        """Raise ProblemError (403) for a request of a foreign page, unless the route's CORS allows it."""
        if self._hosts is None or not self._hosts.checks_pages:
            return
        origins = [value.decode("latin-1") for value in values(fields, b"origin")]
        cors = match.rule.spec.cors
        if cors is not None and ("*" in cors.origins or (origins and set(cors.origins).issuperset(origins))):
            return
        sites = values(fields, b"sec-fetch-site")
        _deny(
            self._hosts.check_page(
                method,
                upgrade=validated.upgrade is not None,
                origins=origins,
                fetch_site=sites[0].decode("latin-1") if sites else None,
            )
        )

    def route(self, method: str, validated: Validated, fields: Sequence[Field]) -> Match:
        """Return the route, or NO_ROUTE for a request about the server as a whole.

        Raises ProblemError: 404 with the nearest routes, or 405 with the allowed methods.
        """
        target = validated.target
        if target.asterisk:
            return NO_ROUTE
        host = host_name(validated.host)
        elements = target.elements
        match = self.table.match(method, host, elements, fields)
        if match is not None:
            return match
        if allowed := self.table.methods(host, elements, fields):
            names = ", ".join(allowed)
            raise ProblemError(
                Problem(
                    405, f"{target.path} allows {names}, not {method}.", fields=((b"Allow", names.encode()),)
                )
            )
        nearest = self.table.nearest(target.path)
        hint = f" The nearest routes are {', '.join(nearest)}." if nearest else " The gateway has no routes."
        raise ProblemError(
            Problem(
                404,
                f"No route matches {method} {target.path}.{hint}",
                extra={"nearest_routes": list(nearest)},
            )
        )

    def gateway_response(self, method: str, validated: Validated, fields: Sequence[Field]) -> Fields | None:
        """Return the response fields for an OPTIONS request to the gateway itself, else None.

        Such a request is about the server as a whole (RFC 9110 §9.3.7), or its Max-Forwards is 0
        (§7.6.2). Raises ProblemError (405) for TRACE with Max-Forwards 0: a reflected request would
        show a script the fields that the browser hides from it.
        """
        target = validated.target
        if target.asterisk:
            return _allow(self.table.all_methods())
        if validated.max_forwards != 0:
            return None
        allow = _allow(self.table.methods(host_name(validated.host), target.elements, fields))
        if method == "TRACE":
            detail = "Max-Forwards is 0, and the gateway itself does not answer TRACE."
            raise ProblemError(Problem(405, detail, fields=tuple(allow)))
        return allow

    def balance(self, match: Match) -> Balance:
        return self._settings[match.rule.order].balance

    @staticmethod
    def _plan(
        method: str,
        validated: Validated,
        match: Match,
        settings: RouteSettings,
        fields: Fields,
        scheme: str,
        client_address: str,
    ) -> Plan:
        target = validated.target
        if settings.route.request_headers is not None:
            fields = edit(fields, settings.route.request_headers)
        path = upstream_path(match.rule, target.path)
        if path != target.path and (match.rule.spec.strip_prefix or match.rule.spec.rewrite):
            fields = with_prefix(fields, matched_prefix(match.rule, target.path))
        head = RequestHead(
            method,
            path if target.query is None else f"{path}?{target.query}",
            validated.host,
            fields,
            length=validated.length,
            chunked=validated.chunked,
            upgrade=validated.upgrade,
        )
        return Plan(
            settings,
            match,
            target,
            scheme,
            head,
            validated.length,
            validated.chunked,
            validated.expects_continue,
            validated.request_id,
            validated.trace,
            client_address,
            fields,
            validated.close,
        )


def _deny(denial: HostDenial | None) -> None:
    if denial is not None:
        problem = Problem(denial.status, denial.detail, error="http_request_denied", extra={"key": KEY})
        raise ProblemError(problem)


def _allow(methods: Sequence[str]) -> Fields:
    return [(b"Allow", ", ".join(name for name in methods if name != "TRACE").encode())]


def _client_address(fields: Sequence[Field], peer: str) -> str:
    """Return the client address that a trusted peer reports: the last one, which that peer itself saw."""
    lines = values(fields, b"x-forwarded-for")
    if not lines:
        return peer
    return lines[-1].rpartition(b",")[2].strip().decode("latin-1") or peer
