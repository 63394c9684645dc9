"""The server blocks and their locations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import unquote

from msctl.export.kind import ExportOptions
from msctl.export.proxies.nginx.maps import Choices, Target, needs_choice, place_key, rewrites_path
from msctl.export.proxies.nginx.syntax import literal, path_regex, quoted, seconds, upstream_name
from msctl.export.proxies.precedence import HostPlan, Pattern
from msctl.export.proxies.upstreams import ProxyTarget
from msctl.model.project import GatewaySpec

LISTEN = 8000
SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
_PROBLEM = '{{"type":"about:blank","title":"{title}","status":{status}}}\\n'
_TITLES = {404: "Not Found", 405: "Method Not Allowed"}


def server_block(
    host: HostPlan,
    options: ExportOptions,
    gateway: GatewaySpec,
    targets: dict[int, Target],
    choices: Choices,
) -> Iterator[str]:
    yield ""
    yield "server {"
    yield f"    listen {options.listen or LISTEN}{'' if host.host else ' default_server'};"
    yield f"    server_name {host.host or '_'};"
    yield "    merge_slashes off;  # route the path as it is passed on"
    yield f"    client_max_body_size {gateway.max_body};"
    if gateway.max_header_bytes != GatewaySpec().max_header_bytes:
        yield f"    large_client_header_buffers 8 {max(1024, gateway.max_header_bytes // 8)};"
    yield ""
    yield "    proxy_http_version 1.1;"
    for line in _headers("$http_host"):
        yield f"    {line}"
    yield "    proxy_buffering off;  # for streams"
    yield "    proxy_request_buffering off;"
    yield "    proxy_next_upstream error timeout;"
    yield f"    proxy_next_upstream_tries {gateway.retries + 1};"
    by_regex = any(place.pattern.has_variables for place in host.places)
    chosen: dict[int, Target] = {}
    codes = {404}
    heads: set[str] = set()
    for place in host.places:
        body = list(_body(targets[id(place.routes[0])]))
        if needs_choice(place):
            body = [f"rewrite ^ /-/msctl/{choices[place_key(place)]} last;"]
            chosen |= {targets[id(route)].number: targets[id(route)] for route in place.routes}
            codes.add(404 if any(route.headers for route in place.routes) else 405)
        for head in _location_names(place.pattern, by_regex=by_regex):
            if head not in heads:  # an exact route may have this path already
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


def _headers(host: str) -> Iterator[str]:
    yield f"proxy_set_header Host {host};"
    yield "proxy_set_header Connection $msctl_connection;"
    yield "proxy_set_header Upgrade $http_upgrade;"
    yield "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
    yield "proxy_set_header X-Forwarded-Proto $scheme;"
    yield "proxy_set_header X-Forwarded-Host $http_host;"


def _upstream_tls(found: ProxyTarget) -> Iterator[str]:
    tls = found.tls
    if tls is None:
        return
    yield "proxy_ssl_server_name on;"
    yield f"proxy_ssl_name {found.server_name};"
    if tls.verify:
        yield "proxy_ssl_verify on;"
        yield "proxy_ssl_verify_depth 4;"
        yield f"proxy_ssl_trusted_certificate {quoted(str(tls.ca or SYSTEM_AUTHORITIES))};"
    if tls.cert is not None and tls.key is not None:
        yield f"proxy_ssl_certificate {quoted(str(tls.cert))};"
        yield f"proxy_ssl_certificate_key {quoted(str(tls.key))};"


def _location(head: str, body: Sequence[str]) -> Iterator[str]:
    yield ""
    yield f"    location {head} {{"
    for line in body:
        yield f"        {line}"
    yield "    }"


def _location_names(pattern: Pattern, *, by_regex: bool) -> Iterator[str]:
    """Yield the names of a pattern's locations, which nginx matches against the decoded path."""
    if by_regex:
        end = "$" if pattern.exact else "(?:/|$)"
        yield f'~ "^{path_regex(pattern, decoded=True)}{end}"' if pattern.elements else '~ "^"'
        return
    path = "/" + unquote("/".join(pattern.elements))
    if pattern.exact:
        yield f"= {quoted(path)}"
    elif not pattern.elements:
        yield "/"
    else:
        yield f"= {quoted(path)}"
        yield quoted(f"{path}/")


def _body(target: Target, *, rewritten: bool = False) -> Iterator[str]:
    route, found = target.route, target.upstream
    if found is None:
        yield f"return {_redirect(target)};"
        return
    own = route.policy
    if route.basic_auth is not None and route.basic_auth.file is not None and not found.is_gateway:
        yield f'auth_basic "{literal(route.basic_auth.realm)}";'
        yield f"auth_basic_user_file {quoted(route.basic_auth.file)};"
    if not found.is_gateway:  # the gateway applies the route's limits itself
        if own.connect_timeout is not None:
            yield f"proxy_connect_timeout {seconds(own.connect_timeout)};"
        if own.idle_timeout is not None:
            yield f"proxy_read_timeout {seconds(own.idle_timeout)};"
        if own.max_body is not None:
            yield f"client_max_body_size {own.max_body};"
        if own.retries is not None:
            yield f"proxy_next_upstream_tries {own.retries + 1};"
        if route.rate_limit is not None:
            burst = (route.rate_limit.burst or route.rate_limit.requests) - 1
            extra = f" burst={burst} nodelay" if burst > 0 else ""
            yield f"limit_req zone=msctl_limit_{target.number}{extra};"
            yield "limit_req_status 429;"
    if found.host is not None:
        yield from _headers(found.host)  # nginx inherits all of them, or none
    yield from _upstream_tls(found)
    if rewrites_path(target):
        path = f"$msctl_path_{target.number}"
    else:
        path = "$request_uri" if rewritten else ""  # without a path, nginx passes the path as it was sent
    yield f"proxy_pass {found.scheme}://{upstream_name(found)}{path};"


def _redirect(target: Target) -> str:
    spec = target.route.redirect
    if spec is None:
        raise ValueError("not a redirect")
    if spec.path is not None:
        path = f"{literal(spec.path)}$is_args$args"
    elif spec.prefix is not None:
        path = f"$msctl_path_{target.number}"
    else:
        path = "$request_uri"
    if spec.port is not None:
        authority = f"{spec.host or '$host'}:{spec.port}"
    else:
        authority = spec.host or "$http_host"
    return f'{spec.status} "{spec.scheme or "$scheme"}://{authority}{path}"'
