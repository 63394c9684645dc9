"""From a request's head to a plan: validated, routed, with the head to forward.

The plan cache. Clients send the same fields many times, and planning costs more than the rest of the
proxy path, so `Planner` keeps what it has planned, in two steps:

- A `_Block` is all that a request says apart from its target: method, version, fields, peer. `fields`
  are the bytes as received. `peer` (address and scheme) belongs to it because X-Forwarded-For,
  X-Forwarded-Proto and the trust in forwarding fields depend on it: without it, one client would be
  forwarded with the address of another. Validation and the fields to forward depend on nothing else,
  unless the target is absolute and names a host of its own; such a request is not cached.
- A block keeps plans by target and by path. A plan is a pure function of its block and its target; of
  the query, only the target itself and the forwarded head depend. So a request that differs from an
  earlier one in its query alone pays for its query alone.

The configuration is fixed for a `Planner`; a reload builds a new one, with an empty cache. Anything that
differs between equal requests stays out of a plan: ids, trace parents, the instance, rate limits, whether
a credential is valid at this time.

To read anything else about a request while planning (the time, a counter, a cookie jar) would break the
cache: add it to a key, or read it after planning. A plan is shared by requests, so it is immutable, and so
are its lists by convention. Refusals are not cached. The caches are bounded by the constants below and
cleared as a whole when full, which costs less per request than an eviction order. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

from msctl.gateway.message.headers import Field, Fields, Hop, Trust, edit, request_fields, values, with_prefix
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.gateway.message.target import Target
from msctl.gateway.request.forwarded import ForwardedHead, Peer, Plan
from msctl.gateway.request.validation import (
    LIMITED,
    FieldFacts,
    Validated,
    validate,
    validate_fields,
    validate_target,
)
from msctl.gateway.routing.route_settings import RouteSettings, unrouted
from msctl.gateway.routing.routes import NO_ROUTE, Match, RouteTable, Rule, matched_prefix, upstream_path
from msctl.http.host_policy import KEY, HostDenial, policy_of
from msctl.model.address import host_name
from msctl.model.project import GatewaySpec, HeaderEdit

BLOCK_CACHE_SIZE = 128
"""The number of blocks at which the cache is cleared."""
TARGET_CACHE_SIZE = 64
"""The number of targets, and of paths, at which those of a block are cleared."""
MAX_CACHED_FIELDS = 4096
"""The size in bytes up to which a block is cached."""
MAX_CACHED_TARGET = 1024
"""The length up to which a plan is cached by its target."""

K = TypeVar("K")
V = TypeVar("V")

_NOT_IN_QUERY = re.compile(r"[\x00-\x20\x7f#]")


class _Block:
    """What depends on all of a head but its target."""

    __slots__ = (
        "admitted",
        "by_path",
        "by_target",
        "client_address",
        "facts",
        "fields",
        "forwarded",
        "heads",
    )

    def __init__(
        self, facts: FieldFacts, fields: Sequence[Field], forwarded: Fields, client_address: str
    ) -> None:
        self.facts = facts
        self.fields = fields
        self.forwarded = forwarded
        self.client_address = client_address
        self.by_target: dict[str, Plan] = {}
        self.by_path: dict[str, Plan] = {}
        self.admitted: set[int] = set()
        """The routes, by their order, for which its host and page were checked: they do not depend on the
        target."""
        self.heads: dict[tuple[int, str], tuple[Fields, ForwardedHead]] = {}
        """The fields to forward and a head with them, by the order of the route and the prefix it strips."""


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
        self._blocks: dict[tuple[object, ...], _Block] = {}

    def plan(
        self,
        method: str,
        raw_target: str,
        version: tuple[int, int],
        fields: Sequence[Field],
        peer: Peer,
    ) -> Plan:
        """Return the plan; raises ProblemError for a request that is refused or matches no route."""
        key = (method, version, fields, peer)
        block = self._blocks.get(key)
        if block is None:
            if raw_target[:1] != "/":
                facts = validate_fields(method, version, fields, self._pseudonym)
                target = validate_target(method, raw_target)
                block = self._block(facts, target.authority or facts.host, version, fields, peer)
                return self._make(method, target, block, peer)
            facts = validate_fields(method, version, fields, self._pseudonym)
            block = self._block(facts, facts.host, version, fields, peer)
            if sum(len(name) + len(value) for name, value in fields) <= MAX_CACHED_FIELDS:
                if len(self._blocks) >= BLOCK_CACHE_SIZE:
                    self._blocks.clear()
                self._blocks[key] = block
        plan = block.by_target.get(raw_target)
        return self._plan_target(method, raw_target, block, version, peer) if plan is None else plan

    def _plan_target(
        self, method: str, raw_target: str, block: _Block, version: tuple[int, int], peer: Peer
    ) -> Plan:
        """Plan a target that its block does not have."""
        path, mark, query = raw_target.partition("?")
        known = block.by_path.get(path)
        if known is not None and not _NOT_IN_QUERY.search(query):
            plan = known.with_query(query if mark else None)
        else:
            target = validate_target(method, raw_target)
            if target.authority is not None:
                block = self._block(block.facts, target.authority, version, block.fields, peer)
                return self._make(method, target, block, peer)
            plan = self._make(method, target, block, peer)
            if path[:1] == "/":
                _keep(block.by_path, path, plan)
        _keep(block.by_target, raw_target, plan)
        return plan

    def _block(
        self,
        facts: FieldFacts,
        host: str,
        version: tuple[int, int],
        fields: Sequence[Field],
        peer: Peer,
    ) -> _Block:
        address, scheme = peer
        hop = Hop(
            address,
            scheme,
            host,
            self._pseudonym,
            f"{version[0]}.{version[1]}",
            self._trust.trusts(address),
            self._forwarded,
        )
        out = request_fields(fields, hop, keep_trace=facts.trace is not None)
        if facts.max_forwards:
            out = edit(out, HeaderEdit(set={"Max-Forwards": str(facts.max_forwards - 1)}))
        return _Block(facts, fields, out, _client_address(fields, address) if hop.trusted else address)

    def _make(self, method: str, target: Target, block: _Block, peer: Peer) -> Plan:
        facts, fields = block.facts, block.fields
        validated = Validated(target, target.authority or facts.host, facts)
        if not block.admitted:
            self.check_host(validated)
        match = self.route(method, validated, fields)
        if match.rule.order not in block.admitted:
            self.check_page(method, validated, match, fields)
            block.admitted.add(match.rule.order)
        own = self.gateway_response(method, validated, fields) if method in LIMITED else None
        settings = self._unrouted if match is NO_ROUTE else self._settings[match.rule.order]
        plan = self._plan(method, validated, match, settings, block, peer[1])
        if own is None:
            return plan
        # A client that waits for a 100 may or may not send its body after the response.
        return plan._replace(
            settings=settings._replace(filtered=True),
            gateway_response=own,
            close=plan.close or facts.expects_continue,
        )

    def branch(self, target: str, plan: Plan, fields: Fields) -> Plan:
        """Plan a request of the gateway's own for a branch of the composed route of `plan`."""
        host = plan.head.host
        own: list[Field] = [(b"Host", host.encode("latin-1"))]
        validated = validate("GET", target, (1, 1) if host else (1, 0), own if host else [], self._pseudonym)
        match = self.route("GET", validated, fields)
        settings = self._settings[match.rule.order]
        if settings.route.redirect or settings.route.compose or settings.route.static:
            raise ProblemError(Problem(502, f"{target} leads to no service."))
        block = _Block(validated.facts, fields, fields, plan.client_address)
        return self._plan("GET", validated, match, settings, block, plan.scheme)

    def own(self, rule: Rule, target: str) -> Plan:
        """Plan a GET of the gateway's own for `target` of the service that a route leads to."""
        host = "localhost"
        fields: Fields = [(b"Accept", b"application/json")]
        validated = validate("GET", target, (1, 1), [(b"Host", host.encode())], self._pseudonym)
        head = ForwardedHead("GET", target, host, fields, validated.facts)
        match = Match(rule, {})
        return Plan(
            self._settings[rule.order],
            match,
            "http",
            validated.facts,
            "127.0.0.1",
            fields,
            False,
            None,
            validated.target,
            head,
        )

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
                upgrade=validated.facts.upgrade is not None,
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
        if validated.facts.max_forwards != 0:
            return None
        allow = _allow(self.table.methods(host_name(validated.host), target.elements, fields))
        if method == "TRACE":
            detail = "Max-Forwards is 0, and the gateway itself does not answer TRACE."
            raise ProblemError(Problem(405, detail, fields=tuple(allow)))
        return allow

    def settings_of(self, match: Match) -> RouteSettings:
        """Return the settings of a route of the table."""
        return self._settings[match.rule.order]

    @staticmethod
    def _plan(
        method: str,
        validated: Validated,
        match: Match,
        settings: RouteSettings,
        block: _Block,
        scheme: str,
    ) -> Plan:
        target, host, facts = validated
        rule = match.rule
        path = upstream_path(rule, target.path)
        prefix = ""
        if path != target.path and (rule.spec.strip_prefix or rule.spec.rewrite):
            prefix = matched_prefix(rule, target.path)
        key = (rule.order, prefix)
        found = block.heads.get(key)
        if found is None:
            fields = block.forwarded
            if settings.route.request_headers is not None:
                fields = edit(fields, settings.route.request_headers)
            if prefix:
                fields = with_prefix(fields, prefix)
            found = fields, ForwardedHead(method, "/", host, fields, facts)
            _keep(block.heads, key, found)
        fields, head = found
        head = head.with_target(path if target.query is None else f"{path}?{target.query}")
        return Plan(settings, match, scheme, facts, block.client_address, fields, False, None, target, head)


def _keep(cache: dict[K, V], key: K, value: V) -> None:
    """Put a value into a bounded cache."""
    if len(cache) >= TARGET_CACHE_SIZE:
        cache.clear()
    if not isinstance(key, str) or len(key) <= MAX_CACHED_TARGET:
        cache[key] = value


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
