"""`nginx`: a proxy in front of a stack that runs on this machine; for nginx 1.18 or newer."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote

from msctl.export.kind import ExportError, ExportKind, ExportOptions, File, Item, Notice
from msctl.export.names import label, labels, project_label
from msctl.export.precedence import HostPlan, Pattern, Place, is_conditional, pattern_of, plan
from msctl.export.upstreams import ProxyTarget, routes_of, upstream
from msctl.model.project import Balance, GatewaySpec, Project, RateLimitKey, RateLimitSpec, RouteSpec
from msctl.model.routing import is_variable

LISTEN = 8000
_NO_BODY_LIMIT = 0
_BURST_ZONE = "1m"
_SIMPLE = re.compile(r"[A-Za-z0-9_/.~+%@:!*,=-]+")
_PROBLEM = '{{"type":"about:blank","title":"{title}","status":{status}}}\\n'
_TITLES = {404: "Not Found", 405: "Method Not Allowed"}


_Choices: TypeAlias = dict[tuple[int, ...], str]
"""For the routes among which a map chooses, the variable that holds the number of the one chosen."""


class _Target(NamedTuple):
    """A route with its number in the file and where it leads; None for a redirect."""

    number: int
    route: RouteSpec
    upstream: ProxyTarget | None


def render(project: Project, options: ExportOptions) -> Iterator[Item]:
    routes = routes_of(project)
    if not routes:
        raise ExportError(
            "services: no service has routes, so nginx would have nothing to lead to",
            hint='give one a route: routes = ["/orders"]',
        )
    targets: dict[int, _Target] = {}
    notices: list[Notice] = []
    for number, route in enumerate(routes):
        if route.redirect is not None:
            targets[id(route)] = _Target(number, route, None)
            continue
        found, more = upstream(project, route)
        targets[id(route)] = _Target(number, route, found)
        notices += more
    labels(dict.fromkeys(target.upstream.service for target in targets.values() if target.upstream))
    gateway = project.gateway or GatewaySpec()
    site = f"{project_label(project)}.conf"
    yield File("nginx.conf", _main(project, site))
    yield File(site, _site(project, options, gateway, targets))
    yield from notices
    yield from _differences(gateway, list(targets.values()))


def _main(project: Project, site: str) -> str:
    return f"""\
# {project.name}: nginx by itself, without the system's configuration. In this folder:
#
#   nginx -p . -c nginx.conf -e stderr -g 'daemon off;'
#
# To add the system to an nginx that runs already, include {site} in its http block instead.

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


def _site(project: Project, options: ExportOptions, gateway: GatewaySpec, targets: dict[int, _Target]) -> str:
    ordered = list(targets.values())
    plans = plan([target.route for target in ordered])
    lines = [
        f"# {project.name}: the routes of the project's gateway, for a stack that runs on this machine.",
        "# Include it in an http block.",
        "",
        *_upstreams(project, gateway, ordered),
        "map $http_upgrade $msctl_connection {",
        "    default upgrade;",
        "    '' '';",
        "}",
    ]
    for target in ordered:
        lines += _path_map(target)
        lines += _limit_zone(target)
    conditions = _conditions(ordered)
    lines += _condition_maps(conditions)
    choices: _Choices = {}
    for place in (place for host in plans for place in host.places):
        if _needs_choice(place) and _identity(place) not in choices:
            name = f"$msctl_choice_{len(choices)}"
            choices[_identity(place)] = name
            lines += _choice_map(name, place, conditions, targets)
    for host in plans:
        lines += _server(host, options, gateway, targets, choices)
    return "\n".join(lines) + "\n"


# --- upstreams --------------------------------------------------------------------------------


def _upstreams(project: Project, gateway: GatewaySpec, targets: Sequence[_Target]) -> Iterator[str]:
    seen: dict[str, _Target] = {}
    for target in targets:
        if target.upstream is not None:
            seen.setdefault(target.upstream.service, target)
    for target in seen.values():
        found = target.upstream
        if found is None:
            continue
        spec = project.service(found.service)
        balance = (spec.policy.balance if spec else None) or gateway.balance
        yield f"upstream {_upstream_name(found)} {{"
        if balance is Balance.LEAST_LOADED:
            yield "    least_conn;"
        yield (
            f"    server {found.address}"
            f" max_fails={gateway.breaker_failures} fail_timeout={_seconds(gateway.breaker_open)};"
        )
        yield "    keepalive 32;"
        yield "}"
        yield ""


def _upstream_name(found: ProxyTarget) -> str:
    return f"msctl_{label(found.service)}"


# --- what maps decide ---------------------------------------------------------------------------


def _rewrites(target: _Target) -> bool:
    """Whether the path that goes on is another one; msctl's gateway does that itself."""
    if target.upstream is None:
        return target.route.redirect is not None and target.route.redirect.prefix is not None
    return not target.upstream.is_gateway and (target.route.strip_prefix or target.route.rewrite is not None)


def _path_map(target: _Target) -> Iterator[str]:
    """The path with its prefix replaced, from the bytes that were sent: nginx would decode them."""
    if not _rewrites(target):
        return
    route, number = target.route, target.number
    rewrite = route.redirect.prefix if route.redirect is not None else route.rewrite
    replacement = "" if rewrite is None else rewrite.rstrip("/")
    head = _head(pattern_of(route), decoded=False)
    yield ""
    yield f"map $request_uri $msctl_path_{number} {{"
    yield f'    "~^{head}(?<msctl_rest_{number}>/.*)$" "{_plain(replacement)}$msctl_rest_{number}";'
    whole = (rewrite or replacement) or "/"
    yield f'    "~^{head}(?<msctl_query_{number}>\\?.*)?$" "{_plain(whole)}$msctl_query_{number}";'
    yield "    default $request_uri;"
    yield "}"


def _limit_zone(target: _Target) -> Iterator[str]:
    limit = target.route.rate_limit
    if limit is None or target.upstream is None or target.upstream.is_gateway:
        return
    yield ""
    yield f"limit_req_zone {_limit_key(limit)} zone=msctl_limit_{target.number}:10m rate={_rate(limit)};"


def _limit_key(limit: RateLimitSpec) -> str:
    if limit.key is RateLimitKey.ROUTE:
        return "$server_port"
    if limit.key is RateLimitKey.HEADER and limit.header:
        return _header_variable(limit.header)
    if limit.key is RateLimitKey.CREDENTIAL:
        return "$http_authorization"
    return "$binary_remote_addr"


def _rate(limit: RateLimitSpec) -> str:
    """nginx counts whole requests a second or a minute."""
    per_second = limit.requests / limit.period
    return (
        f"{int(per_second)}r/s" if per_second == int(per_second) else f"{max(1, round(per_second * 60))}r/m"
    )


def _conditions(targets: Sequence[_Target]) -> dict[tuple[str, str], str]:
    """Every header that a route asks for, with the variable that says whether a request has it."""
    wanted = {(name.lower(), value) for target in targets for name, value in target.route.headers.items()}
    return {pair: f"$msctl_has_{number}" for number, pair in enumerate(sorted(wanted))}


def _condition_maps(conditions: dict[tuple[str, str], str]) -> Iterator[str]:
    for (name, value), variable in conditions.items():
        yield ""
        yield f"map {_header_variable(name)} {variable} {{"
        yield f'    "~^{_quoted_regex(value)}$" 1;'
        yield "    default 0;"
        yield "}"


def _identity(place: Place) -> tuple[int, ...]:
    return tuple(map(id, place.routes))


def _needs_choice(place: Place) -> bool:
    return is_conditional(place.routes[0])


def _choice_map(
    name: str, place: Place, conditions: dict[tuple[str, str], str], targets: dict[int, _Target]
) -> Iterator[str]:
    """The number of the route that takes a request here; regular expressions are tried in order."""
    yield ""
    yield f'map "$request_method:{"".join(conditions.values())}" {name} {{'
    for route in place.routes:
        methods = "|".join(re.escape(method.upper()) for method in route.methods)
        wanted = {(header.lower(), value) for header, value in route.headers.items()}
        flags = "".join("1" if pair in wanted else "." for pair in conditions)
        yield f'    "~^{f"(?:{methods})" if methods else "[^:]*"}:{flags}$" {targets[id(route)].number};'
    yield f"    default {404 if any(route.headers for route in place.routes) else 405};"
    yield "}"


# --- servers and locations ------------------------------------------------------------------------


def _server(
    host: HostPlan,
    options: ExportOptions,
    gateway: GatewaySpec,
    targets: dict[int, _Target],
    choices: _Choices,
) -> Iterator[str]:
    yield ""
    yield "server {"
    yield f"    listen {options.listen or LISTEN}{'' if host.host else ' default_server'};"
    yield f"    server_name {host.host or '_'};"
    yield "    merge_slashes off;  # what is routed is what is passed on"
    yield f"    client_max_body_size {gateway.max_body};"
    yield ""
    yield "    proxy_http_version 1.1;"
    yield "    proxy_set_header Host $http_host;"
    yield "    proxy_set_header Connection $msctl_connection;"
    yield "    proxy_set_header Upgrade $http_upgrade;"
    yield "    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
    yield "    proxy_set_header X-Forwarded-Proto $scheme;"
    yield "    proxy_set_header X-Forwarded-Host $http_host;"
    yield "    proxy_buffering off;  # streams go out as they come in"
    yield "    proxy_request_buffering off;"
    yield "    proxy_next_upstream error timeout;"
    yield f"    proxy_next_upstream_tries {gateway.retries + 1};"
    by_regex = any(place.pattern.has_variables for place in host.places)
    chosen: dict[int, _Target] = {}
    codes = {404}
    heads: set[str] = set()
    for place in host.places:
        body = list(_body(targets[id(place.routes[0])]))
        if _needs_choice(place):
            body = [f"rewrite ^ /-/msctl/{choices[_identity(place)]} last;"]
            chosen |= {targets[id(route)].number: targets[id(route)] for route in place.routes}
            codes.add(404 if any(route.headers for route in place.routes) else 405)
        for head in _heads(place.pattern, by_regex=by_regex):
            if head not in heads:  # a path alone may be that of an exact route, which came before
                heads.add(head)
                yield from _location(head, body)
    for number, target in sorted(chosen.items()):
        yield from _location(f"= /-/msctl/{number}", ["internal;", *_body(target, rewritten=True)])
    for code in sorted(codes):
        problem = _PROBLEM.format(title=_TITLES[code], status=code)
        answer = ["default_type application/problem+json;", f"return {code} '{problem}';"]
        if code != 404 or 405 in codes or chosen:
            yield from _location(f"= /-/msctl/{code}", ["internal;", *answer])
        if code == 404 and "/" not in heads and '~ "^"' not in heads:
            yield from _location("/", answer)
    yield "}"


def _location(head: str, body: Sequence[str]) -> Iterator[str]:
    yield ""
    yield f"    location {head} {{"
    for line in body:
        yield f"        {line}"
    yield "    }"


def _heads(pattern: Pattern, *, by_regex: bool) -> Iterator[str]:
    """What a location begins with. nginx matches it against the path decoded."""
    if by_regex:
        end = "$" if pattern.exact else "(?:/|$)"
        yield f'~ "^{_head(pattern, decoded=True)}{end}"' if pattern.elements else '~ "^"'
        return
    path = "/" + unquote("/".join(pattern.elements))
    if pattern.exact:
        yield f"= {_word(path)}"
    elif not pattern.elements:
        yield "/"
    else:
        yield f"= {_word(path)}"
        yield _word(f"{path}/")


def _head(pattern: Pattern, *, decoded: bool) -> str:
    """The path as a regular expression, within double quotes."""
    if pattern.exact and not pattern.elements:
        return "/"
    parts = (
        "[^/?]+" if is_variable(element) else _quoted_regex(unquote(element) if decoded else element)
        for element in pattern.elements
    )
    return "".join(f"/{part}" for part in parts)


def _body(target: _Target, *, rewritten: bool = False) -> Iterator[str]:
    route, found = target.route, target.upstream
    if found is None:
        yield f"return {_redirect(target)};"
        return
    own = route.policy
    if not found.is_gateway:  # which has the route's own limits
        if own.connect_timeout is not None:
            yield f"proxy_connect_timeout {_seconds(own.connect_timeout)};"
        if own.idle_timeout is not None:
            yield f"proxy_read_timeout {_seconds(own.idle_timeout)};"
        if own.max_body is not None:
            yield f"client_max_body_size {own.max_body};"
        if own.retries is not None:
            yield f"proxy_next_upstream_tries {own.retries + 1};"
        if route.rate_limit is not None:
            burst = (route.rate_limit.burst or route.rate_limit.requests) - 1
            extra = f" burst={burst} nodelay" if burst > 0 else ""
            yield f"limit_req zone=msctl_limit_{target.number}{extra};"
            yield "limit_req_status 429;"
    if _rewrites(target):
        path = f"$msctl_path_{target.number}"
    else:
        path = "$request_uri" if rewritten else ""  # without a path nginx passes on the one that was sent
    yield f"proxy_pass {found.scheme}://{_upstream_name(found)}{path};"


def _redirect(target: _Target) -> str:
    spec = target.route.redirect
    if spec is None:
        raise ValueError("not a redirect")
    if spec.path is not None:
        path = f"{_plain(spec.path)}$is_args$args"
    elif spec.prefix is not None:
        path = f"$msctl_path_{target.number}"
    else:
        path = "$request_uri"
    if spec.port is not None:
        authority = f"{spec.host or '$host'}:{spec.port}"
    else:
        authority = spec.host or "$http_host"
    return f'{spec.status} "{spec.scheme or "$scheme"}://{authority}{path}"'


# --- how nginx writes things ------------------------------------------------------------------------


def _word(text: str) -> str:
    return text if _SIMPLE.fullmatch(text) else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _quoted_regex(text: str) -> str:
    """Literal text as a regular expression within double quotes."""
    return re.escape(text).replace("/", "/").replace('"', '\\"')


def _plain(text: str) -> str:
    """Text within double quotes, in which no variable is meant."""
    if "$" in text:
        raise ExportError(f'nginx has no way to write the "$" in "{text}"', hint="write it as %24")
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _header_variable(name: str) -> str:
    return f"$http_{name.lower().replace('-', '_')}"


def _seconds(value: float) -> str:
    return f"{int(value)}s" if value == int(value) else f"{math.ceil(value * 1000)}ms"


def _differences(gateway: GatewaySpec, targets: Sequence[_Target]) -> Iterator[Notice]:
    default = GatewaySpec()
    if gateway.response_timeout != default.response_timeout:
        yield Notice(
            "gateway.response_timeout",
            "nginx has one timeout for headers and body: idle_timeout is used for both",
        )
    if gateway.retry_budget != default.retry_budget or gateway.retry_floor != default.retry_floor:
        yield Notice("gateway.retry_budget", "nginx limits tries, and has no budget for them")
    if gateway.forwarded:
        yield Notice("gateway.forwarded", "nginx sends X-Forwarded-*, not Forwarded")
    for target in targets:
        key = f"services.{target.route.service}.routes"
        if target.route.policy.response_timeout is not None:
            yield Notice(
                f"{key}.response_timeout", "nginx has one timeout for headers and body: idle_timeout"
            )
        limit = target.route.rate_limit
        if limit is not None and limit.key is RateLimitKey.CREDENTIAL:
            yield Notice(f"{key}.rate_limit.key", "nginx goes by the Authorization field as a whole")


KIND = ExportKind(
    "nginx",
    "nginx.conf, in front of a stack on this machine",
    render,
    frozenset({"listen"}),
)
