"""The map blocks: rewritten paths, rate limit keys, and the choice among routes of one location."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from msctl.export.proxies.nginx.syntax import (
    OWN,
    header_variable,
    in_quotes,
    literal,
    literal_regex,
)
from msctl.export.proxies.nginx.targets import Target
from msctl.export.proxies.precedence import Place, is_conditional, pattern_of
from msctl.model.route_spec import RateLimitKey, RateLimitSpec, RouteSpec

Choices: TypeAlias = dict[tuple[int, ...], str]
"""For the routes of a place, the variable of the map that chooses among them."""

CONSTANT_MAPS = (
    f"map $http_upgrade ${OWN}connection {{",
    "    default upgrade;",
    "    '' '';",
    "}",
    "",
    "# WebSockets and event streams may be silent for longer.",
    f'map "$http_upgrade:$http_accept" ${OWN}is_stream {{',
    '    "~^[^:]" 1;',
    '    "~*^:.*text/event-stream" 1;',
    "    default 0;",
    "}",
    "",
    f"map $http_x_request_id ${OWN}request_id {{",
    '    "~^[A-Za-z0-9._~+/=:@-]{1,128}$" $http_x_request_id;',
    "    default $request_id;",
    "}",
    "",
    "# Dot segments, encoded ones too, are refused: nginx matches a path without them, and passes them on.",
    "# A plain one of a single dot is left out by a redirect.",
    f"map $request_uri ${OWN}has_dots {{",
    '    "~*^[^?]*?(?!/[.](?:[/?]|$))(?:[/'
    + in_quotes(r"\\")
    + "]|%2f|%5c)(?:[.]|%2e){1,2}(?:[/;?"
    + in_quotes(r"\\")
    + ']|%2f|%5c|%3b|$)" 1;',
    "    default 0;",
    "}",
    "",
    f"map $request_uri ${OWN}without_dot {{",
    f'    "~^(?!//|/[.]//)(?<{OWN}before>/(?:[^?]*?/)?)[.](?:/|(?=[?]|$))(?<{OWN}after>.*)$"'
    f' "${OWN}before${OWN}after";',
    "    default '';",
    "}",
    "",
    *(
        line
        for name in ("prefix", "retry_after", "error_origin", "error_credentials", "error_vary")
        for line in (f"map '' ${OWN}{name} {{", "    default '';  # locations set it", "}", "")
    ),
    f"map $status:${OWN}retry_after ${OWN}retry {{",
    f'    "~^429:(?<{OWN}wait>[0-9]+)$" ${OWN}wait;',
    "    default '';",
    "}",
)


def rewrites_path(target: Target) -> bool:
    """Whether nginx rewrites the path; msctl's gateway rewrites it itself."""
    redirect = target.route.redirect
    if target.group is None:
        return redirect is not None and redirect.prefix is not None
    return not target.is_gateway and (target.route.strip_prefix or target.route.rewrite is not None)


def path_map(target: Target) -> Iterator[str]:
    """Map the path as it was sent to the path with its prefix replaced; $uri would be decoded.

    The location has matched the path: as many elements are replaced as the route's has, in any spelling.
    """
    if not rewrites_path(target):
        return
    route, number = target.route, target.number
    rewrite = route.redirect.prefix if route.redirect is not None else route.rewrite
    replacement = "" if rewrite is None else rewrite.rstrip("/")
    count = len(pattern_of(route).elements)
    head = f"(?:/[^/?]*){{{count}}}" if count else ""
    yield ""
    yield f"map $request_uri ${OWN}path_{number} {{"
    yield f'    "~^{head}(?<{OWN}rest_{number}>/.*)$" "{literal(replacement)}${OWN}rest_{number}";'
    whole = (rewrite or replacement) or "/"
    query = in_quotes(r"\?.*")
    yield f'    "~^{head}(?<{OWN}query_{number}>{query})?$" "{literal(whole)}${OWN}query_{number}";'
    yield "    default $request_uri;"
    yield "}"
    if sends_prefix(target):
        yield ""
        yield f"map $request_uri ${OWN}prefix_{number} {{"
        yield f'    "~^(?<{OWN}head_{number}>{head})" ${OWN}head_{number};'
        yield "    default '';"
        yield "}"


def sends_prefix(target: Target) -> bool:
    """Whether the service is told the part of the path that was replaced."""
    return target.group is not None and rewrites_path(target) and bool(pattern_of(target.route).elements)


def has_limit(target: Target) -> bool:
    return target.route.rate_limit is not None and not target.is_gateway


def limit_zone(target: Target) -> Iterator[str]:
    limit = target.route.rate_limit
    if limit is None or target.is_gateway:
        return
    key = "$binary_remote_addr"
    said = _limit_key(target, limit)
    if limit.key is RateLimitKey.ROUTE:
        key = "$server_port"
    elif said is not None:  # nginx does not count requests with an empty key
        key = f"${OWN}client_{target.number}"
        yield ""
        yield f"map {said} {key} {{"
        yield "    '' \"client $remote_addr\";"
        yield f'    default "given {said}";'
        yield "}"
    yield ""
    yield f"limit_req_zone {key} zone={OWN}limit_{target.number}:10m rate={rate(limit)};"


def _limit_key(target: Target, limit: RateLimitSpec) -> str | None:
    """Return the variable that tells the clients apart; None for their addresses."""
    if limit.key is RateLimitKey.HEADER and limit.header:
        return header_variable(limit.header)
    if limit.key is RateLimitKey.CREDENTIAL and target.route.basic_auth is not None:
        return "$remote_user"
    return None


def rate(limit: RateLimitSpec) -> str:
    """Return the rate in whole requests per second or minute, as nginx requires."""
    per_second = limit.requests / limit.period
    return (
        f"{int(per_second)}r/s" if per_second == int(per_second) else f"{max(1, round(per_second * 60))}r/m"
    )


def is_exact(limit: RateLimitSpec) -> bool:
    per_minute = limit.requests * 60 / limit.period
    return abs(per_minute - round(per_minute)) < 1e-9 and per_minute >= 1


def conditions(targets: Sequence[Target]) -> dict[tuple[str, str], str]:
    """Return each header and value that a route requires, with the variable that tests it."""
    wanted = {(name.lower(), value) for target in targets for name, value in target.route.headers.items()}
    return {pair: f"${OWN}has_{number}" for number, pair in enumerate(sorted(wanted))}


def condition_maps(conditions: dict[tuple[str, str], str]) -> Iterator[str]:
    for (name, value), variable in conditions.items():
        yield ""
        yield f"map {header_variable(name)} {variable} {{"
        yield f'    "~^{literal_regex(value)}$" 1;'
        yield "    default 0;"
        yield "}"


def place_key(place: Place) -> tuple[int, ...]:
    return tuple(map(id, place.routes))


def needs_choice(place: Place) -> bool:
    return is_conditional(place.routes[0])


def choice_map(
    name: str, place: Place, conditions: dict[tuple[str, str], str], targets: Mapping[int, Target]
) -> Iterator[str]:
    """Map a request to the number of its route; regular expressions are tried in order.

    A preflight takes the route of the request that it asks for, unless one was made for OPTIONS before it.
    """

    def line(methods: str, route: RouteSpec) -> str:
        wanted = {(header.lower(), value) for header, value in route.headers.items()}
        flags = "".join("1" if pair in wanted else "." for pair in conditions)
        return f'    "~^{methods}:{flags}$" {targets[id(route)].number};'

    preflights = list(_preflighted(place.routes))
    asked, any_asked = (f">${OWN}asked", ">[^:]*") if preflights else ("", "")
    yield ""
    yield f'map "$request_method{asked}:{"".join(conditions.values())}" {name} {{'
    for route in preflights:
        yield line(f"OPTIONS>(?:{_methods(route)})", route)
    for route in place.routes:
        yield line(f"(?:{_methods(route)}){any_asked}" if route.methods else "[^:]*", route)
    yield f"    default {404 if any(route.headers for route in place.routes) else 405};"
    yield "}"


def asks_preflights(route: RouteSpec) -> bool:
    """Return whether a route takes preflights that its methods do not name."""
    return route.cors is not None and bool(route.methods) and "OPTIONS" not in route.methods


def _preflighted(routes: Sequence[RouteSpec]) -> Iterator[RouteSpec]:
    for route in routes:
        if "OPTIONS" in route.methods or not is_conditional(route):
            return
        if asks_preflights(route):
            yield route


def _methods(route: RouteSpec) -> str:
    return "|".join(literal_regex(method.upper()) for method in route.methods)
