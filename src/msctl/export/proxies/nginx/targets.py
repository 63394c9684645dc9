"""What nginx does with the requests of each route, and what is left to msctl's gateway. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from msctl.export.kind import Notice
from msctl.export.proxies.nginx.groups import Group, Groups
from msctl.export.proxies.precedence import Pattern, pattern_of
from msctl.export.proxies.upstreams import (
    FRAMING,
    OWN_RESPONSE_FIELDS,
    ProxyTarget,
    alike,
    direct,
    edited_names,
    gateway_target,
    holds_secret,
    left_to_gateway,
    passed_on,
    upstream,
)
from msctl.export.workloads import HostPort
from msctl.gateway.message.target import path_elements
from msctl.gateway.routing.routes import RouteTable, matched_prefix, upstream_path
from msctl.model.project import Project
from msctl.model.route_policies import CanarySpec, StaticSpec, StickySpec, UpstreamTlsSpec
from msctl.model.route_spec import HeaderEdit, RouteSpec
from msctl.model.upstream_policy import UpstreamPolicy

FILE_FIELDS = frozenset(
    {"accept-ranges", "cache-control", "content-encoding", "etag", "last-modified", "vary"}
    | {"x-content-type-options"}
)
_NO_POLICY = UpstreamPolicy()
_GUARDS = ("api_key", "jwt", "basic_auth", "forward_auth", "cors", "rate_limit")


class Canary(NamedTuple):
    """Two groups: `forced` for requests that ask for the canary, `by_chance` with the stable one behind."""

    spec: CanarySpec
    forced: Group
    by_chance: Group


class Asked(NamedTuple):
    """What `Question` says of a destination that has no group yet."""

    target: ProxyTarget
    path: str
    prefix: str = ""


class Question(NamedTuple):
    """Whom forward_auth asks, at which path; `prefix` is what its route removed from that."""

    group: Group
    path: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A route with its number in the file, and where its requests go.

    `group` is None for a redirect and for `files`. `policy` is its own and its service's. With a `group` that
    is msctl's gateway, that does all that the route says.
    """

    number: int
    route: RouteSpec
    group: Group | None = None
    files: StaticSpec | None = None
    policy: UpstreamPolicy = _NO_POLICY
    sticky: StickySpec | None = None
    canary: Canary | None = None
    mirror: Group | None = None
    question: Question | None = None

    @property
    def is_gateway(self) -> bool:
        return self.group is not None and self.group.target.is_gateway

    @property
    def variants(self) -> bool:
        """Whether its requests are parted further: preflights, and those that are copied."""
        return not self.is_gateway and (self.route.cors is not None or self.mirror is not None)


class Targets:
    """The targets of all routes; `notices` say what nginx leaves to msctl's gateway."""

    def __init__(self, project: Project, routes: Sequence[RouteSpec]) -> None:
        self._project = project
        self._routes = routes
        self._table = RouteTable(routes)
        self.groups = Groups(project)
        self.notices: list[Notice] = []
        self.all = tuple(self._target(number, route) for number, route in enumerate(routes))
        self.by_route = {id(target.route): target for target in self.all}

    def _target(self, number: int, route: RouteSpec) -> Target:
        spec = self._project.service(route.service)
        policy = _NO_POLICY if spec is None else spec.policy
        if route.redirect is not None:
            return self._redirect(number, route)
        files = route.static
        if files is None and spec is not None and not (route.weights or route.canary or route.mirror):
            files = spec.static if spec.url is None else None
        question = self._question(route)
        canary = self._canary(route)
        mirror = None if route.mirror is None else direct(self._project, route.mirror.service)
        edits_response = _can_edit(route.response_headers, has_files=files is not None)
        able = {
            "static": True,
            "cors": True,
            "basic_auth": route.basic_auth is not None and route.basic_auth.file is not None,
            "request_headers": not edited_names(route.request_headers) & FRAMING,
            "response_headers": edits_response,
            "canary": canary is not None,
            "mirror": mirror is not None,
            "forward_auth": question is not None,
        }
        expressed = {
            name for name, can in able.items() if can and not holds_secret(self._project, route, name)
        }
        if files is not None:
            notices = left_to_gateway(route, expressed)
            self.notices += notices
            if not notices:
                return Target(number, route, None, files, question=self._asked(question))
            return Target(number, route, self._gateway(notices[0].key), policy=policy)
        found, more = upstream(self._project, route, expressed)
        self.notices += more
        if found.is_gateway:
            return Target(number, route, self.groups.plain(found), policy=policy)
        sticky = route.policy.sticky or policy.sticky
        balance = route.policy.balance or policy.balance
        group = self.groups.group(found, sticky, balance)
        return Target(
            number,
            route,
            group,
            None,
            policy,
            sticky,
            None
            if canary is None or route.canary is None
            else Canary(
                route.canary,
                self.groups.group(canary, sticky, balance),
                self.groups.with_backup(canary, found, balance),
            ),
            None if mirror is None else self.groups.plain(mirror),
            self._asked(question),
        )

    def _redirect(self, number: int, route: RouteSpec) -> Target:
        """nginx redirects before it checks anything."""
        guards = [name for name in _GUARDS if getattr(route, name) is not None]
        if not guards and _can_edit(route.response_headers, has_files=False):
            return Target(number, route)
        notices = [passed_on(route, name) for name in guards or ["response_headers"]]
        self.notices += notices
        return Target(number, route, self._gateway(notices[0].key))

    def _gateway(self, key: str) -> Group:
        return self.groups.plain(gateway_target(self._project, key))

    def _canary(self, route: RouteSpec) -> ProxyTarget | None:
        """Return the canary of a route, if it can be reached as its service is."""
        if route.canary is None:
            return None
        stable, found = direct(self._project, route.service), direct(self._project, route.canary.service)
        return found if stable is not None and found is not None and alike(stable, found) else None

    def _question(self, route: RouteSpec) -> Asked | None:
        """Return whom forward_auth asks; None if it takes msctl's gateway to find that out."""
        spec = route.forward_auth
        if spec is None or route.basic_auth is not None:  # nginx cannot tell their refusals apart
            return None
        if spec.url is not None:
            return _by_url(spec.url)
        path = spec.path or "/"
        wanted = Pattern(path_elements(path), exact=True)
        near = [other for other in self._routes if pattern_of(other).covers(wanted)]
        if any(other.headers for other in near):
            return None
        hosts = route.hosts or ("", *(host for other in near for host in other.hosts))
        found = {}
        for host in hosts:
            match = self._table.match("GET", host.lower(), path_elements(path), ())
            found[None if match is None else match.rule.order] = match
        match = next(iter(found.values()))
        if len(found) != 1 or match is None:
            return None
        other = match.rule.spec
        busy = other.weights or other.canary or other.request_headers or other.redirect or other.compose
        target = None if busy or other.static else direct(self._project, other.service)
        if target is None:
            return None
        sent = upstream_path(match.rule, path)
        return Asked(target, sent, "" if sent == path else matched_prefix(match.rule, path))

    def _asked(self, question: Asked | None) -> Question | None:
        return None if question is None else Question(self.groups.plain(question.target), *question[1:])


def _by_url(url: str) -> Asked:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    tls = UpstreamTlsSpec() if parts.scheme == "https" else None
    address = HostPort(parts.hostname or "", port)
    target = ProxyTarget(f"auth-{parts.hostname}", address, parts.scheme, host=parts.netloc, tls=tls)
    return Asked(target, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


def _can_edit(edit: HeaderEdit | None, *, has_files: bool) -> bool:
    """Whether nginx can edit these fields of a response."""
    return not edited_names(edit) & (OWN_RESPONSE_FIELDS | (FILE_FIELDS if has_files else frozenset()))
