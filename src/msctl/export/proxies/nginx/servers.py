"""The server blocks and their locations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msctl.export.kind import ExportOptions
from msctl.export.proxies.nginx import static_files
from msctl.export.proxies.nginx.bodies import Bodies
from msctl.export.proxies.nginx.fields import (
    ERROR_FIELDS,
    REQUEST_ID,
    proxy_lines,
    request_fields,
    trust_lines,
)
from msctl.export.proxies.nginx.maps import Choices, needs_choice, place_key
from msctl.export.proxies.nginx.syntax import LONGEST_SILENCE, OWN, decoded_path, path_regex, quoted, seconds
from msctl.export.proxies.nginx.targets import Targets
from msctl.export.proxies.precedence import HostPlan, Pattern, Place
from msctl.gateway.message.http1 import MAX_HEAD
from msctl.model.gateway_spec import GatewaySpec

LISTEN = 8000
_PROBLEM = '{{"type":"about:blank","title":"{title}","status":{status}}}\\n'
_TITLES = {404: "Not Found", 405: "Method Not Allowed"}
_LOCAL = ("localhost", "*.localhost", "127.0.0.1", "[::1]")
_IGNORED = "X-Accel-Redirect X-Accel-Limit-Rate X-Accel-Buffering X-Accel-Charset X-Accel-Expires"


def server_blocks(
    plans: Sequence[HostPlan],
    options: ExportOptions,
    gateway: GatewaySpec,
    targets: Targets,
    choices: Choices,
) -> Iterator[str]:
    """The block for the hosts that no route is for comes first, which makes it the default of its port
    without saying so: where the files of two projects listen on one port, each for its own hosts, nginx
    accepts both. Two that are for any host are refused by nginx.
    """
    limited = gateway.hosts is not None and "*" not in gateway.hosts
    others = f"{OWN}other_hosts"
    if limited:
        yield ""
        yield "server {"
        yield f"    listen {options.listen or LISTEN};"
        yield f"    server_name {others};"
        yield "    return 421;  # a host that is not the gateway's"
        yield "}"
    for host in sorted(plans, key=lambda plan: bool(plan.host or plan.places)):
        names = [host.host or ("_" if host.places else others)]
        if not host.host and limited:
            taken = {plan.host for plan in plans}
            names = [name for name in (*_LOCAL, *(gateway.hosts or ())) if name.lower() not in taken]
        is_default = not host.host and bool(host.places) and not limited
        yield from _server(host, " ".join(names), options, gateway, targets, choices, is_default=is_default)


def _server(
    host: HostPlan,
    names: str,
    options: ExportOptions,
    gateway: GatewaySpec,
    targets: Targets,
    choices: Choices,
    *,
    is_default: bool,
) -> Iterator[str]:
    yield ""
    yield "server {"
    yield f"    listen {options.listen or LISTEN}{' default_server' if is_default else ''};"
    yield f"    server_name {names};"
    found = [targets.by_route[id(route)] for place in host.places for route in _routes(place)]
    here = list({target.number: target for target in found}.values())
    for line in _settings(gateway):
        yield f"    {line}" if line else ""
    if any(target.files for target in here):
        yield ""
        for line in static_files.type_lines():
            yield f"    {line}"
    bodies = Bodies(gateway, targets.groups)
    by_regex = any(place.pattern.has_variables for place in host.places)
    inner: dict[str, list[str]] = {}
    heads: set[str] = set()
    for place in host.places:
        first = targets.by_route[id(place.routes[0])]
        if needs_choice(place):
            body = [f"rewrite ^ /-/msctl/{choices[place_key(place)]} last;"]
            for route in place.routes:
                target = targets.by_route[id(route)]
                inner[f"= /-/msctl/{target.number}"] = ["internal;", *bodies.entry(target, rewritten=True)]
        else:
            body = list(bodies.entry(first, rewritten=False))
        if any(targets.by_route[id(route)].files for route in _routes(place)):
            body.insert(0, static_files.SET_PATH)
        for head in _location_names(place.pattern, by_regex=by_regex):
            if head not in heads:  # an exact route may have this path already
                heads.add(head)
                yield from _location(head, body)
    for target in here:
        inner |= {head: list(body) for head, body in bodies.more(target)}
    for head in sorted(inner, key=_order):
        yield from _location(head, inner[head])
    if any(target.files for target in here):
        allow = ['add_header Allow "GET, HEAD" always;', *ERROR_FIELDS]
        yield from _location(f"= {static_files.NOT_ALLOWED}", ["internal;", *allow, *_answer(405)])
    for code in _TITLES:
        yield from _location(f"= /-/msctl/{code}", ["internal;", *ERROR_FIELDS, *_answer(code)])
    yield from _location("= /-/msctl/problem", ["internal;", *_problem()])
    if "/" not in heads and '~ "^"' not in heads:
        yield from _location("/", _answer(404))
    yield "}"


def _settings(gateway: GatewaySpec) -> Iterator[str]:
    yield "merge_slashes off;  # route the path as it is passed on"
    yield "absolute_redirect off;"
    yield f"client_max_body_size {gateway.max_body};"
    yield f"large_client_header_buffers 2 {gateway.max_header_bytes};  # of which a field may fill one"
    yield from trust_lines(gateway)
    yield ""
    yield f"if (${OWN}has_dots) {{"
    yield "    return 400;"
    yield "}"
    yield f"if (${OWN}without_dot) {{"
    yield f"    return 308 ${OWN}without_dot;"
    yield "}"
    yield ""
    yield "proxy_http_version 1.1;"
    yield from proxy_lines(request_fields(gateway))
    yield "proxy_hide_header X-Request-Id;"
    yield "proxy_pass_header Server;"
    yield f"proxy_ignore_headers {_IGNORED};"
    yield REQUEST_ID
    yield "proxy_redirect off;"
    yield "proxy_buffering off;  # for streams"
    yield f"proxy_buffer_size {MAX_HEAD};  # of a response's head"
    yield f"proxy_buffers 4 {MAX_HEAD};"
    yield "proxy_request_buffering off;"
    yield f"proxy_connect_timeout {seconds(gateway.connect_timeout)};"
    yield f"proxy_read_timeout {seconds(gateway.idle_timeout or LONGEST_SILENCE)};"
    yield f"proxy_send_timeout {seconds(gateway.idle_timeout or LONGEST_SILENCE)};"
    yield "proxy_next_upstream error timeout;"
    yield f"proxy_next_upstream_tries {gateway.retries + 1};"
    yield "limit_req_status 429;"
    yield "error_page 401 403 413 414 429 500 502 503 504 /-/msctl/problem;"
    yield "error_page 494 =431 /-/msctl/problem;"


def _answer(code: int) -> tuple[str, str]:
    problem = _PROBLEM.format(title=_TITLES[code], status=code)
    return "default_type application/problem+json;", f"return {code} '{problem}';"


def _problem() -> Iterator[str]:
    """The answer to what nginx refuses; its status is that of the refusal."""
    yield "default_type application/problem+json;"
    yield f"add_header Retry-After ${OWN}retry always;"
    yield from ERROR_FIELDS
    yield 'return 200 \'{"type":"about:blank","status":$status}\\n\';'


def _routes(place: Place) -> Sequence[object]:
    return place.routes if needs_choice(place) else place.routes[:1]


def _order(head: str) -> tuple[bool, int, str]:
    """Sort locations by the number of their route."""
    digits = "".join(filter(str.isdigit, head.rpartition("/")[2]))
    return head.startswith("@"), int(digits or 0), head


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
    path = "/" + decoded_path("/".join(pattern.elements))
    if pattern.exact:
        yield f"= {quoted(path)}"
    elif not pattern.elements:
        yield "/"
    else:
        yield f"= {quoted(path)}"
        yield quoted(f"{path}/")
