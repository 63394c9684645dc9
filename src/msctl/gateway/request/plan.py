"""From a request's head to a plan: validated, routed, with the head to forward.

The plan cache. Clients send the same fields many times, and planning costs more than the rest of the
proxy path, so what was planned is kept, in three steps:

- A `_Block` is all that a request says apart from its target: method, version, fields, peer. `fields`
  are the bytes as received. `peer` (address and scheme) belongs to it because X-Forwarded-For,
  X-Forwarded-Proto and the trust in forwarding fields depend on it: without it, one client would be
  forwarded with the address of another. Validation and the fields to forward depend on nothing else,
  unless the target is absolute and names a host of its own; such a request is not cached. Blocks are
  kept in the `fields_memo` of the head that was received.
- A block keeps a plan for each route that forwards the target as it came. Another target of the route has
  the same plan but for the target itself, unless it needs a closer look (`_PLAIN`).
- A plan is kept in the `memo` of its head. The reader of heads remembers those that come again, in a bounded
  memory, and what is planned for one lives as long as it: nothing is kept of a target that comes once.

The configuration is fixed for a `Planner`; a reload builds a new one, with an empty cache. Anything that
differs between equal requests stays out of a plan: ids, trace parents, the instance, rate limits, whether
a credential is valid at this time.

To read anything else about a request while planning (the time, a counter, a cookie jar) would break the
cache: add it to a key, or read it after planning. A plan is shared by requests, so nothing of it is changed
later. Refusals are not cached. The caches are bounded by the constants below and cleared as a whole when
full, which costs less per request than an eviction order. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

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
from msctl.model.exchange import RequestHead
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import HeaderEdit

PEER_CACHE_SIZE = 64
"""The number of peers at which the blocks of a head are cleared."""
HEADS_CACHE_SIZE = 64
"""The number of prefixes that are stripped at which the heads with them are cleared."""

_PLAIN = re.compile(
    r"/(?:[^\x00-\x20\x7f#%.?\\]++|(?<=[A-Za-z0-9_\-])\.)*+(?:\?[^\x00-\x20\x7f#]*+)?",
)
"""A target of which `validate_target` finds nothing to say: its path has no escapes, and no element in it
begins with a dot."""
_MEMO = "gateway.plans"
K = TypeVar("K")
V = TypeVar("V")


class _Block:
    """What depends on all of a head but its target."""

    __slots__ = ("admitted", "client_address", "facts", "fields", "forwarded", "heads", "host", "plans")

    def __init__(
        self, facts: FieldFacts, fields: Sequence[Field], forwarded: Fields, client_address: str, host: str
    ) -> None:
        self.facts = facts
        self.fields = fields
        self.forwarded = forwarded
        self.client_address = client_address
        self.host = host_name(host)
        self.plans: dict[int, Plan] = {}
        """A plan for each route that forwards a target as it came, by the order of the route."""
        self.admitted: set[int] = set()
        """The routes, by their order, for which its host and page were checked: they do not depend on the
        target."""
        self.heads: dict[tuple[int, str], tuple[Fields, ForwardedHead]] = {}
        """The fields to forward and a head with them, by the order of the route and the prefix it strips."""


class _Blocks(NamedTuple):
    """The blocks of a head, by peer. Another planner, after a reload, makes its own."""

    planner: Planner
    by_peer: dict[Peer, _Block]


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

    def plan(self, head: RequestHead, peer: Peer, extra: Sequence[Field] = ()) -> Plan:
        """Return the plan of a request with `extra` fields beyond its head's.

        Raises ProblemError for a request that is refused or matches no route.
        """
        if extra:
            head = RequestHead(head.method, head.target, head.version, (*head.fields, *extra))
        kept: tuple[Planner, Peer, Plan] | None = head.memo.get(_MEMO)
        if kept is not None and kept[0] is self and kept[1] == peer:
            return kept[2]
        plan = self._plan_head(head, peer)
        head.memo[_MEMO] = (self, peer, plan)
        return plan

    def _plan_head(self, head: RequestHead, peer: Peer) -> Plan:
        blocks: _Blocks | None = head.fields_memo.get(_MEMO)
        block = None if blocks is None or blocks.planner is not self else blocks.by_peer.get(peer)
        target = head.target
        if block is None:
            block = self._add_block(head, peer)
        elif _PLAIN.fullmatch(target) is not None:
            elements = target.partition("?")[0][1:].split("/")
            rule = self.table.find(head.method, block.host, elements, block.fields)
            if rule is not None:
                plan = block.plans.get(rule.order)
                if plan is not None:
                    return plan.to(target)
        parsed = validate_target(head.method, target)
        if parsed.authority is not None:
            block = self._block(block.facts, parsed.authority, head.version, block.fields, peer)
        return self._make(head.method, parsed, block, peer)

    def _add_block(self, head: RequestHead, peer: Peer) -> _Block:
        facts = validate_fields(head.method, head.version, head.fields, self._pseudonym)
        block = self._block(facts, facts.host, head.version, head.fields, peer)
        blocks: _Blocks | None = head.fields_memo.get(_MEMO)
        if blocks is None or blocks.planner is not self:
            blocks = head.fields_memo[_MEMO] = _Blocks(self, {})
        _keep(blocks.by_peer, peer, block, PEER_CACHE_SIZE)
        return block

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
        client = _client_address(fields, address) if hop.trusted else address
        return _Block(facts, fields, out, client, host)

    def _make(self, method: str, target: Target, block: _Block, peer: Peer) -> Plan:
        facts, fields = block.facts, block.fields
        validated = Validated(target, target.authority or facts.host, facts)
        if not block.admitted:
            self.check_host(validated)
        match = self._match(method, target, block.host, fields)
        rule = match.rule
        if rule.order not in block.admitted:
            self.check_page(method, validated, match, fields)
            block.admitted.add(rule.order)
        own = self.gateway_response(method, validated, fields) if method in LIMITED else None
        settings = self._unrouted if match is NO_ROUTE else self._settings[rule.order]
        plan = self._plan(method, validated, match, settings, block, peer[1])
        if own is not None:
            # A client that waits for a 100 may or may not send its body after the response.
            return plan.replace(
                settings=settings._replace(filtered=True),
                gateway_response=own,
                close=plan.close or facts.expects_continue,
            )
        spec = rule.spec
        if match is not NO_ROUTE and spec.compose is None and spec.rewrite is None and not spec.strip_prefix:
            block.plans[rule.order] = plan
        return plan

    def unedited(self, plan: Plan, head: RequestHead, peer: Peer, extra: Sequence[Field] = ()) -> Fields:
        """Return the fields that any route forwards of a request: without the changes of `plan`'s route."""
        fields = (*head.fields, *extra)
        return self._block(plan.facts, plan.head.host, head.version, fields, peer).forwarded

    def branch(self, target: str, plan: Plan, fields: Fields) -> Plan:
        """Plan a request of the gateway's own for a branch of the composed route of `plan`."""
        host = plan.head.host
        own: list[Field] = [(b"Host", host.encode("latin-1"))]
        validated = validate("GET", target, (1, 1) if host else (1, 0), own if host else [], self._pseudonym)
        match = self.route("GET", validated, fields)
        settings = self._settings[match.rule.order]
        if settings.route.redirect or settings.route.compose or settings.route.static:
            raise ProblemError(Problem(502, f"{target} leads to no service."))
        block = _Block(validated.facts, fields, fields, plan.client_address, validated.host)
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
            target,
            head,
        )

    def validated(self, head: RequestHead) -> Validated:
        """Validate a request for something of the gateway's own; raises ProblemError."""
        return validate(head.method, head.target, head.version, head.fields, self._pseudonym)

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
        return self._match(method, validated.target, host_name(validated.host), fields)

    def _match(self, method: str, target: Target, host: str, fields: Sequence[Field]) -> Match:
        if target.asterisk:
            return NO_ROUTE
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
            _keep(block.heads, key, found, HEADS_CACHE_SIZE)
        fields, head = found
        sent = target.origin_form()
        head = head.with_target(sent if path is target.path else Target(path, target.query).origin_form())
        return Plan(settings, match, scheme, facts, block.client_address, fields, False, None, sent, head)


def _keep(cache: dict[K, V], key: K, value: V, size: int) -> None:
    """Put a value into a bounded cache."""
    if len(cache) >= size:
        cache.clear()
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
