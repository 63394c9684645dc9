"""The files, and what nginx does differently."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from msctl.export.kind import ExportError, ExportKind, ExportOptions, File, Item, Notice
from msctl.export.names import project_label
from msctl.export.proxies.nginx import forward_auth, static_files
from msctl.export.proxies.nginx.bodies import SYSTEM_AUTHORITIES
from msctl.export.proxies.nginx.cors import ASKED_MAP, PREFLIGHT_MAP, cors_maps
from msctl.export.proxies.nginx.fields import trust_maps
from msctl.export.proxies.nginx.maps import (
    CONSTANT_MAPS,
    Choices,
    asks_preflights,
    choice_map,
    condition_maps,
    conditions,
    is_exact,
    limit_zone,
    needs_choice,
    path_map,
    place_key,
    rate,
)
from msctl.export.proxies.nginx.servers import server_blocks
from msctl.export.proxies.nginx.syntax import DOLLAR, OWN, of_project
from msctl.export.proxies.nginx.targets import Target, Targets
from msctl.export.proxies.nginx.traffic import canary_maps, traffic_differences, variant_map
from msctl.export.proxies.precedence import plan
from msctl.export.proxies.upstreams import ProxyTarget, behind_notices, routes_of
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.project import Project
from msctl.model.route_spec import RateLimitKey

_USUAL_NAME = 32
_USUAL_VARIABLES = 80


def render(project: Project, options: ExportOptions) -> Iterator[Item]:
    routes = routes_of(project)
    if not routes:
        raise ExportError(
            "services: no service has routes, so nginx has nothing to proxy",
            hint='add a route to a service: routes = ["/orders"]',
        )
    targets = Targets(project, routes)
    gateway = project.gateway or GatewaySpec()
    name = f"{project_label(project)}.conf"
    site = _site(project, options, gateway, targets)
    yield File("nginx.conf", _main(project, name, list(_tables(site, targets))))
    yield File(name, site)
    yield from targets.notices
    yield from _differences(gateway, targets.all)


def _tables(site: str, targets: Targets) -> Iterator[str]:
    """The sizes of tables that a large site or a long name exceeds."""
    longest = max((len(host) for target in targets.all for host in target.route.hosts), default=0)
    if longest > _USUAL_NAME:
        yield f"server_names_hash_bucket_size {1 << (longest + _USUAL_NAME).bit_length()};"
    variables = len(set(re.findall(r"\$msctl_\w+", site)))
    if variables > _USUAL_VARIABLES:
        yield "variables_hash_bucket_size 512;"
        yield f"variables_hash_max_size {1 << (2 * variables).bit_length()};"


def _main(project: Project, site: str, tables: Sequence[str]) -> str:
    sizes = "".join(f"    {line}\n" for line in tables)
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
{sizes}    include {site};
}}
"""


def _site(project: Project, options: ExportOptions, gateway: GatewaySpec, targets: Targets) -> str:
    body = "\n".join(_blocks(options, gateway, targets)) + "\n"
    lines = [
        f"# {project.name}: the routes of the project's gateway, for a stack on this machine.",
        "# Include it in an http block.",
        "",
    ]
    if f"${{{DOLLAR}}}" in body:
        lines += [f"geo ${DOLLAR} {{", '    default "$";', "}", ""]
    return of_project("\n".join(lines) + "\n" + body, project_label(project))


def _blocks(options: ExportOptions, gateway: GatewaySpec, targets: Targets) -> Iterator[str]:
    routes = [target.route for target in targets.all]
    plans = plan(routes)
    if any(target.question for target in targets.all):
        yield from forward_auth.HEAD
    yield from targets.groups.blocks()
    yield from CONSTANT_MAPS
    yield from trust_maps(gateway)
    if any(target.files for target in targets.all):
        yield from static_files.file_head()
    if any(target.route.cors and not target.is_gateway for target in targets.all):
        yield from PREFLIGHT_MAP
    if any(map(asks_preflights, routes)):
        yield from ASKED_MAP
    for target in targets.all:
        yield from path_map(target)
        yield from static_files.file_maps(target)
        yield from limit_zone(target)
        yield from cors_maps(target)
        yield from canary_maps(target, targets.groups)
        yield from variant_map(target)
    yield from targets.groups.tie_maps()
    wanted = conditions(targets.all)
    yield from condition_maps(wanted)
    choices: Choices = {}
    for place in (place for host in plans for place in host.places):
        if needs_choice(place) and place_key(place) not in choices:
            name = f"${OWN}choice_{len(choices)}"
            choices[place_key(place)] = name
            yield from choice_map(name, place, wanted, targets.by_route)
    yield from server_blocks(plans, options, gateway, targets, choices)


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
    if any(target.is_gateway for target in targets):
        yield from behind_notices(gateway, "nginx")
    for target in targets:
        yield from _route_differences(target)


def _route_differences(target: Target) -> Iterator[Notice]:
    key = f"services.{target.route.service}.routes"
    if target.is_gateway:
        return
    if target.route.policy.response_timeout is not None:
        yield Notice(f"{key}.response_timeout", "nginx has one timeout for headers and body: idle_timeout")
    for group in (target.group, target.mirror, target.question and target.question.group):
        if group is not None and group.target.tls is not None:
            yield from _tls_differences(group.target)
    limit = target.route.rate_limit
    if limit is not None:
        if not is_exact(limit):
            text = f"nginx counts in whole requests per second or minute: {rate(limit)} here"
            yield Notice(f"{key}.rate_limit.period", text)
        if limit.key is RateLimitKey.CREDENTIAL:
            text = "nginx counts before it checks a password, by the name of the user or by address"
            yield Notice(f"{key}.rate_limit.key", text)
    if target.files is not None and target.files.precompressed:
        text = "nginx sends FILE.gz; for FILE.br it needs the module ngx_brotli"
        yield Notice(f"{key}.static.precompressed", text)
    yield from traffic_differences(target)


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
