"""HTTPRoutes that lead to the services themselves, where the Gateway API can say what a route says. Pure.

The rules of an HTTPRoute have the gateway's own precedence but for two things: variables in a path, and a
host that comes before a longer path. So each host has an HTTPRoute of its own, with the places of
proxies/precedence.py as paths. A place whose routes are not in the Gateway API's order, and one that also
matches paths which only a pattern with variables tells apart, is left to msctl's gateway, as is every route
that needs it.

Source: github.com/kubernetes-sigs/gateway-api, config/crd/standard, and the comments of apis/v1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from msctl.export.containers.kubernetes.network import NAME
from msctl.export.kind import Notice
from msctl.export.proxies.precedence import Pattern, Place, pattern_of, plan
from msctl.export.proxies.upstreams import FRAMING, OWN_RESPONSE_FIELDS, edited_names, holds_secret, routes_of
from msctl.export.workloads import Workload
from msctl.gateway.policies.split import NEVER
from msctl.model.project import Project
from msctl.model.route_spec import HeaderEdit, RouteSpec
from msctl.model.upstream_policy import UpstreamPolicy

Rule = dict[str, Any]

_MAX_RULES = 16
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
_PATH = re.compile(r"(?:/|(?:/(?:[-A-Za-z0-9._~!$&'()*+,;=:@]|%(?!2[fF])[0-9a-fA-F]{2})+)+)")
_HOST = re.compile(r"(?:\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_ADDRESS = re.compile(r"[0-9.]+")
_FIELD = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")
_VALUE = re.compile(r"[^\x00-\x1f\x7f]{1,4096}")
_MAX_EDITS = 16
_SERVICE = "service"
_GATEWAY_ONLY = ("compose", "api_key", "jwt", "basic_auth", "forward_auth", "rate_limit", "cors", "static")
_POLICIES = (
    *("connect_timeout", "response_timeout", "idle_timeout", "stream_idle_timeout", "max_body", "retries"),
    *("pool_size", "balance", "breaker_on", "sticky"),
)


class HttpRoutes(NamedTuple):
    """The HTTPRoutes without the Gateway, the services to which they lead, and what is left to msctl's."""

    routes: tuple[HttpRoute, ...]
    services: frozenset[str]
    notices: tuple[Notice, ...]


class HttpRoute(NamedTuple):
    """One HTTPRoute; `host` is empty for all hosts that no other names."""

    name: str
    host: str
    rules: tuple[Rule, ...]

    def document(self, parents: object, hosts: object) -> dict[str, object]:
        return {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": self.name, "labels": {NAME: self.name}},
            "spec": {
                "parentRefs": parents,
                **({"hostnames": hosts} if hosts else {}),
                "rules": list(self.rules),
            },
        }


def to_gateway(gateway: Workload) -> HttpRoutes:
    """Return the HTTPRoute that leads to msctl's gateway alone."""
    return HttpRoutes((HttpRoute(gateway.label, "", (_rest(gateway),)),), frozenset(), ())


def _rest(gateway: Workload) -> Rule:
    """Return the rule that leads all other requests to msctl's gateway."""
    backend = {"name": gateway.label, "port": gateway.address.port if gateway.address else 0}
    return {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": [backend]}


def http_routes(
    project: Project, gateway: Workload, found: Sequence[Workload], host: str | None
) -> HttpRoutes:
    """Return the HTTPRoutes of a project; `host` is that of the entry."""
    return _Builder(project, gateway, found).build(host)


class _Builder:
    def __init__(self, project: Project, gateway: Workload, found: Sequence[Workload]) -> None:
        self._project = project
        self._gateway = gateway
        self._reachable: Mapping[str, Workload] = {
            workload.name: workload
            for workload in found
            if workload.address is not None and not workload.spec.oneshot
        }
        self._notices: dict[Notice, None] = {}
        self._services: set[str] = set()

    def build(self, host: str | None) -> HttpRoutes:
        plans = plan(routes_of(self._project))
        named = {each.host for each in plans}
        built: list[HttpRoute] = []
        for each in plans:
            if each.host and (not _HOST.fullmatch(each.host) or _ADDRESS.fullmatch(each.host)):
                text = f"{each.host} is no DNS name, so no HTTPRoute can have it: left out"
                self._notices[Notice("services.*.routes.hosts", text)] = None
                continue
            if not each.host and host in named:
                continue  # that host's HTTPRoute has the routes of every host, too
            rules = list(self._rules(each.places))
            for start in range(0, len(rules), _MAX_RULES):
                name = f"{self._gateway.label}-{len(built) + 1}" if built else self._gateway.label
                built.append(HttpRoute(name, each.host, tuple(rules[start : start + _MAX_RULES])))
        return HttpRoutes(tuple(built), frozenset(self._services), tuple(self._notices))

    def _rules(self, places: Sequence[Place]) -> Iterator[Rule]:
        patterns = [place.pattern for place in places]
        hidden = [pattern for pattern in patterns if not _is_path(pattern)]
        for place in places:
            if place.pattern in hidden:
                for route in place.routes:
                    self._leave(route, "path", "an HTTPRoute knows no variables in a path")
                continue
            near = [common for each in hidden if (common := place.pattern.meet(each)) is not None]
            if any(common in hidden or not _is_path(common) for common in near):
                text = "it also matches paths that only msctl's gateway tells apart"
                for route in place.routes:
                    self._leave(route, "path", text)
                yield {"matches": [{"path": _path(place.pattern)}], "backendRefs": [self._to_gateway()]}
                continue
            yield from self._place(place)
        if not any(not pattern.elements and not pattern.exact for pattern in patterns):
            yield _rest(self._gateway)

    def _place(self, place: Place) -> Iterator[Rule]:
        """Yield the rules of the routes that compete for one path."""
        keys = [(not route.methods, -len(route.headers)) for route in place.routes]
        untold = {name for route in place.routes if (name := _untold(route)) is not None}
        if keys != sorted(keys) or untold or _canary_overtakes(place.routes):
            for route in place.routes:
                text = "the Gateway API cannot say it, or would prefer another route"
                self._leave(route, _untold(route) or "headers", text)
            yield {"matches": [{"path": _path(place.pattern)}], "backendRefs": [self._to_gateway()]}
            return
        for route in place.routes:
            needs = self._needs_gateway(route)
            if needs is None:
                yield from self._route(route, place.pattern)
            else:
                self._leave(route, needs, "msctl's gateway does this")
                for matches in _matches(route, place.pattern, apart=False):
                    yield {"matches": matches, "backendRefs": [self._to_gateway()]}
        if place.routes[-1].methods or place.routes[-1].headers:  # the gateway answers 404 or 405
            yield {"matches": [{"path": _path(place.pattern)}], "backendRefs": [self._to_gateway()]}

    def _needs_gateway(self, route: RouteSpec) -> str | None:
        """Return the key for which the requests of a route go through msctl's gateway."""
        project = self._project
        for name in _GATEWAY_ONLY:
            if getattr(route, name) is not None:
                return name
        spec = project.service(route.service)
        for level in (route.policy, UpstreamPolicy() if spec is None else spec.policy):
            for name in _POLICIES:
                if getattr(level, name) is not None:
                    return name
        for name, written in (("request_headers", FRAMING), ("response_headers", OWN_RESPONSE_FIELDS)):
            edit: HeaderEdit | None = getattr(route, name)
            if edited_names(edit) & written or not _can_edit(edit) or holds_secret(project, route, name):
                return name
        if route.redirect is not None:
            return None
        canary = route.canary
        if canary is not None and (canary.cookie is not None or not _VALUE.fullmatch(canary.value)):
            return "canary"
        names = {"weights": [*route.weights] or [route.service]}
        names["canary"] = [] if canary is None else [canary.service]
        names["mirror"] = [] if route.mirror is None else [route.mirror.service]
        for key, services in names.items():
            if not all(name in self._reachable for name in services):
                return key if route.other_services else _SERVICE
        return None

    def _route(self, route: RouteSpec, pattern: Pattern) -> Iterator[Rule]:
        canary = route.canary
        if canary is not None:
            text = "the Gateway answers 503 for the share of a service that is down"
            self._notices[Notice(f"services.{route.service}.routes.canary", text)] = None
        if canary is not None and canary.header is not None:
            for value, service in ((canary.value, canary.service), (NEVER, route.service)):
                asked = {"name": canary.header, "value": value}
                yield from self._native(route, pattern, [self._to(service)], asked)
        yield from self._native(route, pattern, [] if route.redirect is not None else self._backends(route))

    def _native(
        self, route: RouteSpec, pattern: Pattern, backends: list[Rule], asked: Rule | None = None
    ) -> Iterator[Rule]:
        filters = list(self._filters(route, pattern))
        rewrites = any(each["type"] in ("URLRewrite", "RequestRedirect") for each in filters)
        for matches in _matches(route, pattern, apart=rewrites):
            if asked is not None:
                matches = [{**match, "headers": [*match.get("headers", []), asked]} for match in matches]
            yield {
                "matches": matches,
                **({"filters": filters} if filters else {}),
                **({} if route.redirect is not None else {"backendRefs": backends}),
            }

    def _filters(self, route: RouteSpec, pattern: Pattern) -> Iterator[Rule]:
        redirect = route.redirect
        if redirect is not None:
            path = _replaced(route, pattern, redirect.prefix) if redirect.prefix is not None else None
            if redirect.path is not None:
                path = {"type": "ReplaceFullPath", "replaceFullPath": redirect.path}
            settings = {
                "scheme": redirect.scheme,
                "hostname": redirect.host,
                "port": redirect.port,
                "path": path,
                "statusCode": redirect.status,
            }
            given = {name: value for name, value in settings.items() if value is not None}
            yield {"type": "RequestRedirect", "requestRedirect": given}
        elif route.strip_prefix or route.rewrite is not None:
            yield {
                "type": "URLRewrite",
                "urlRewrite": {"path": _replaced(route, pattern, route.rewrite or "/")},
            }
        if route.request_headers is not None:
            edit = _edit(route.request_headers)
            yield {"type": "RequestHeaderModifier", "requestHeaderModifier": edit}
        if route.response_headers is not None:
            edit = _edit(route.response_headers)
            yield {"type": "ResponseHeaderModifier", "responseHeaderModifier": edit}
        if route.mirror is not None:
            key = f"services.{route.service}.routes.mirror"
            self._notices[Notice(f"{key}.max_body", "the Gateway copies bodies of any length")] = None
            part = Fraction(route.mirror.share).limit_denominator(1_000_000)
            share: Rule = {}
            if part != 1:
                self._notices[Notice(f"{key}.share", "needs Gateway API 1.3, and a Gateway that does it")] = (
                    None
                )
                share = {"fraction": {"numerator": part.numerator, "denominator": part.denominator}}
            copy = {"backendRef": self._to(route.mirror.service), **share}
            yield {"type": "RequestMirror", "requestMirror": copy}

    def _backends(self, route: RouteSpec) -> list[Rule]:
        canary = route.canary
        if canary is not None:
            part = Fraction(canary.share).limit_denominator(1_000_000)
            if not part:
                return [self._to(route.service)]
            weights = {
                route.service: part.denominator - part.numerator,
                canary.service: part.numerator,
            }
        else:
            weights = dict(route.weights)
        if not weights:
            return [self._to(route.service)]
        return [{**self._to(name), "weight": weight} for name, weight in weights.items()]

    def _to(self, service: str) -> Rule:
        workload = self._reachable[service]
        self._services.add(service)
        return {"name": workload.label, "port": workload.address.port if workload.address else 0}

    def _to_gateway(self) -> Rule:
        address = self._gateway.address
        return {"name": self._gateway.label, "port": address.port if address else 0}

    def _leave(self, route: RouteSpec, name: str, why: str) -> None:
        key = f"services.{route.service}.routes.{name}" if route.service else f"gateway.routes.{name}"
        if name == _SERVICE:
            key = f"services.{route.service}"
        self._notices[Notice(key, f"{route.path}: through msctl's gateway: {why}")] = None


def _matches(route: RouteSpec, pattern: Pattern, *, apart: bool) -> Iterator[list[Rule]]:
    """Yield the matches of each rule; a rule that rewrites the path has one match."""
    headers = [{"name": name, "value": text} for name, text in route.headers.items()]
    found = [
        {
            "path": _path(pattern),
            **({"method": method} if method else {}),
            **({"headers": headers} if headers else {}),
        }
        for method in route.methods or ("",)
    ]
    yield from ([match] for match in found) if apart else (found,)


def _is_path(pattern: Pattern) -> bool:
    """Whether a match of the Gateway API can have this path."""
    path = "/" + "/".join(pattern.elements)
    return not pattern.has_variables and len(path) <= 1024 and _PATH.fullmatch(path) is not None


def _path(pattern: Pattern) -> Rule:
    return {
        "type": "Exact" if pattern.exact else "PathPrefix",
        "value": "/" + "/".join(pattern.elements),
    }


def _canary_overtakes(routes: Sequence[RouteSpec]) -> bool:
    """Whether the field of a canary would have its route preferred to one that comes before it."""
    for index, route in enumerate(routes):
        if route.canary is not None and route.canary.header is not None:
            if any(other.headers for other in routes):
                return True
            if any(bool(other.methods) == bool(route.methods) for other in routes[:index]):
                return True
    return False


def _untold(route: RouteSpec) -> str | None:
    """Return the key of a condition that no match can have."""
    if not _METHODS.issuperset(route.methods):
        return "methods"
    told = all(_FIELD.fullmatch(name) and _VALUE.fullmatch(text) for name, text in route.headers.items())
    return None if told else "headers"


def _replaced(route: RouteSpec, pattern: Pattern, prefix: str) -> Rule:
    """Return the new path of requests that match `pattern`, which may be longer than the route's."""
    rest = pattern.elements[len(pattern_of(route).elements) :]
    path = "/".join((prefix.rstrip("/"), *rest)) if rest else prefix
    if pattern.exact:
        return {"type": "ReplaceFullPath", "replaceFullPath": path}
    return {"type": "ReplacePrefixMatch", "replacePrefixMatch": path}


def _can_edit(edit: HeaderEdit | None) -> bool:
    if edit is None:
        return True
    values = (*edit.set.values(), *edit.add.values())
    return (
        all(_FIELD.fullmatch(name) for name in edited_names(edit))
        and all(_VALUE.fullmatch(value) for value in values)
        and max(len(edit.remove), len(edit.set), len(edit.add)) <= _MAX_EDITS
        and not {name.lower() for name in edit.add} & {name.lower() for name in (*edit.set, *edit.remove)}
    )


def _edit(edit: HeaderEdit) -> Rule:
    return {
        **({"set": [{"name": name, "value": text} for name, text in edit.set.items()]} if edit.set else {}),
        **({"add": [{"name": name, "value": text} for name, text in edit.add.items()]} if edit.add else {}),
        **({"remove": list(edit.remove)} if edit.remove else {}),
    }
