"""The files, their upstream blocks, and what nginx does differently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msctl.export.kind import ExportError, ExportKind, ExportOptions, File, Item, Notice
from msctl.export.names import labels, project_label
from msctl.export.proxies.nginx.maps import (
    Choices,
    Target,
    choice_map,
    condition_maps,
    conditions,
    limit_zone,
    needs_choice,
    path_map,
    place_key,
)
from msctl.export.proxies.nginx.servers import SYSTEM_AUTHORITIES, server_block
from msctl.export.proxies.nginx.syntax import header_variable, seconds, upstream_name
from msctl.export.proxies.precedence import plan
from msctl.export.proxies.upstreams import ProxyTarget, routes_of, upstream
from msctl.model.project import Balance, GatewaySpec, Project, RateLimitKey, RouteSpec, UpstreamPolicy
from msctl.model.route_policies import StickySpec


def render(project: Project, options: ExportOptions) -> Iterator[Item]:
    routes = routes_of(project)
    if not routes:
        raise ExportError(
            "services: no service has routes, so nginx has nothing to proxy",
            hint='add a route to a service: routes = ["/orders"]',
        )
    targets: dict[int, Target] = {}
    notices: list[Notice] = []
    for number, route in enumerate(routes):
        if route.redirect is not None:
            targets[id(route)] = Target(number, route, None)
            continue
        found, more = upstream(project, route, _expressed(route))
        targets[id(route)] = Target(number, route, found)
        notices += more
    labels(dict.fromkeys(target.upstream.service for target in targets.values() if target.upstream))
    gateway = project.gateway or GatewaySpec()
    site = f"{project_label(project)}.conf"
    yield File("nginx.conf", _main(project, site))
    yield File(site, _site(project, options, gateway, targets))
    yield from notices
    yield from _differences(gateway, list(targets.values()))
    for spec in project.services:
        if spec.policy.sticky is not None and spec.policy.sticky.cookie is not None:
            text = "nginx sets no such cookie: it ties a client by its address"
            yield Notice(f"services.{spec.name}.sticky.cookie", text)


def _main(project: Project, site: str) -> str:
    return f"""\
# {project.name}: a standalone nginx. In this folder:
#
#   nginx -p . -c nginx.conf -e stderr -g 'daemon off;'
#
# For an nginx that already runs, include {site} in its http block instead.

worker_processes auto;
pid nginx.pid;
error_log stderr warn;

events {{
    worker_connections 4096;
}}

http {{
    access_log /dev/stdout;
    server_tokens off;
    client_body_temp_path client_body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include {site};
}}
"""


def _site(project: Project, options: ExportOptions, gateway: GatewaySpec, targets: dict[int, Target]) -> str:
    ordered = list(targets.values())
    plans = plan([target.route for target in ordered])
    lines = [
        f"# {project.name}: the routes of the project's gateway, for a stack on this machine.",
        "# Include it in an http block.",
        "",
        *_upstreams(project, gateway, ordered),
        "map $http_upgrade $msctl_connection {",
        "    default upgrade;",
        "    '' '';",
        "}",
    ]
    for target in ordered:
        lines += path_map(target)
        lines += limit_zone(target)
    wanted = conditions(ordered)
    lines += condition_maps(wanted)
    choices: Choices = {}
    for place in (place for host in plans for place in host.places):
        if needs_choice(place) and place_key(place) not in choices:
            name = f"$msctl_choice_{len(choices)}"
            choices[place_key(place)] = name
            lines += choice_map(name, place, wanted, targets)
    for host in plans:
        lines += server_block(host, options, gateway, targets, choices)
    return "\n".join(lines) + "\n"


def _upstreams(project: Project, gateway: GatewaySpec, targets: Sequence[Target]) -> Iterator[str]:
    seen: dict[str, Target] = {}
    for target in targets:
        if target.upstream is not None:
            seen.setdefault(target.upstream.service, target)
    for target in seen.values():
        found = target.upstream
        if found is None:
            continue
        spec = project.service(found.service)
        policy = spec.policy if spec else UpstreamPolicy()
        balance = policy.balance or gateway.balance
        yield f"upstream {upstream_name(found)} {{"
        if policy.sticky is not None and not found.is_gateway:
            yield f"    hash {_sticky_key(policy.sticky)} consistent;"
        elif balance is Balance.LEAST_LOADED:
            yield "    least_conn;"
        for number, address in enumerate(found.addresses):
            weight = f" weight={found.weights[number]}" if found.weights else ""
            yield (
                f"    server {address}{weight}"
                f" max_fails={gateway.breaker_failures} fail_timeout={seconds(gateway.breaker_open)};"
            )
        yield "    keepalive 32;"
        yield "}"
        yield ""


def _expressed(route: RouteSpec) -> frozenset[str]:
    """Return the keys that nginx does itself: a file of users, which it reads in the same format."""
    has_file = route.basic_auth is not None and route.basic_auth.file is not None
    return frozenset({"basic_auth"}) if has_file else frozenset()


def _sticky_key(sticky: StickySpec) -> str:
    if sticky.header is not None:
        return header_variable(sticky.header)
    return "$remote_addr"


def _differences(gateway: GatewaySpec, targets: Sequence[Target]) -> Iterator[Notice]:
    default = GatewaySpec()
    if gateway.response_timeout != default.response_timeout:
        yield Notice(
            "gateway.response_timeout",
            "nginx has one timeout for headers and body: idle_timeout applies to both",
        )
    if gateway.retry_budget != default.retry_budget or gateway.retry_floor != default.retry_floor:
        yield Notice("gateway.retry_budget", "nginx limits tries per request, and has no retry budget")
    if gateway.forwarded:
        yield Notice("gateway.forwarded", "nginx sends X-Forwarded-*, not Forwarded")
    if gateway.openapi is not None:
        yield Notice("gateway.openapi", "nginx joins no OpenAPI documents")
    for target in targets:
        key = f"services.{target.route.service}.routes"
        if target.route.policy.response_timeout is not None:
            yield Notice(
                f"{key}.response_timeout", "nginx has one timeout for headers and body: idle_timeout"
            )
        sticky = target.route.policy.sticky
        if sticky is not None:
            yield Notice(f"{key}.sticky", "nginx chooses by service: set it for the service")
        found = target.upstream
        if found is not None and found.tls is not None:
            yield from _tls_differences(found)
        limit = target.route.rate_limit
        if limit is not None and limit.key is RateLimitKey.CREDENTIAL:
            yield Notice(f"{key}.rate_limit.key", "nginx uses the whole Authorization field as the key")


def _tls_differences(found: ProxyTarget) -> Iterator[Notice]:
    tls = found.tls
    if tls is not None and tls.verify and tls.ca is None:
        text = f"nginx verifies with a file of authorities: {SYSTEM_AUTHORITIES}; other systems have another"
        yield Notice(f"services.{found.service}.tls.ca", text)
    if len({address.host for address in found.addresses}) > 1:
        text = f"nginx expects one name in every certificate: {found.server_name}"
        yield Notice(f"services.{found.service}.tls.server_name", text)


KIND = ExportKind(
    "nginx",
    "nginx.conf, in front of a stack on this machine",
    render,
    frozenset({"listen"}),
)
