"""The map blocks: rewritten paths, rate limit keys, and the choice among routes of one location."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from msctl.export.proxies.nginx.syntax import header_variable, literal, literal_regex, path_regex
from msctl.export.proxies.precedence import Place, is_conditional, pattern_of
from msctl.export.proxies.upstreams import ProxyTarget
from msctl.model.project import RateLimitKey, RateLimitSpec, RouteSpec

Choices: TypeAlias = dict[tuple[int, ...], str]
"""For the routes of a place, the variable of the map that chooses among them."""


class Target(NamedTuple):
    """A route with its number in the file and its destination; None for a redirect."""

    number: int
    route: RouteSpec
    upstream: ProxyTarget | None


def rewrites_path(target: Target) -> bool:
    """Whether nginx rewrites the path; msctl's gateway rewrites it itself."""
    if target.upstream is None:
        return target.route.redirect is not None and target.route.redirect.prefix is not None
    return not target.upstream.is_gateway and (target.route.strip_prefix or target.route.rewrite is not None)


def path_map(target: Target) -> Iterator[str]:
    """Map the path as it was sent to the path with its prefix replaced; $uri would be decoded."""
    if not rewrites_path(target):
        return
    route, number = target.route, target.number
    rewrite = route.redirect.prefix if route.redirect is not None else route.rewrite
    replacement = "" if rewrite is None else rewrite.rstrip("/")
    head = path_regex(pattern_of(route), decoded=False)
    yield ""
    yield f"map $request_uri $msctl_path_{number} {{"
    yield f'    "~^{head}(?<msctl_rest_{number}>/.*)$" "{literal(replacement)}$msctl_rest_{number}";'
    whole = (rewrite or replacement) or "/"
    yield f'    "~^{head}(?<msctl_query_{number}>\\?.*)?$" "{literal(whole)}$msctl_query_{number}";'
    yield "    default $request_uri;"
    yield "}"


def limit_zone(target: Target) -> Iterator[str]:
    limit = target.route.rate_limit
    if limit is None or target.upstream is None or target.upstream.is_gateway:
        return
    yield ""
    yield f"limit_req_zone {_limit_key(limit)} zone=msctl_limit_{target.number}:10m rate={_rate(limit)};"


def _limit_key(limit: RateLimitSpec) -> str:
    if limit.key is RateLimitKey.ROUTE:
        return "$server_port"
    if limit.key is RateLimitKey.HEADER and limit.header:
        return header_variable(limit.header)
    if limit.key is RateLimitKey.CREDENTIAL:
        return "$http_authorization"
    return "$binary_remote_addr"


def _rate(limit: RateLimitSpec) -> str:
    """Return the rate in whole requests per second or minute, as nginx requires."""
    per_second = limit.requests / limit.period
    return (
        f"{int(per_second)}r/s" if per_second == int(per_second) else f"{max(1, round(per_second * 60))}r/m"
    )


def conditions(targets: Sequence[Target]) -> dict[tuple[str, str], str]:
    """Return each header and value that a route requires, with the variable that tests it."""
    wanted = {(name.lower(), value) for target in targets for name, value in target.route.headers.items()}
    return {pair: f"$msctl_has_{number}" for number, pair in enumerate(sorted(wanted))}


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
    name: str, place: Place, conditions: dict[tuple[str, str], str], targets: dict[int, Target]
) -> Iterator[str]:
    """Map a request to the number of its route; regular expressions are tried in order."""
    yield ""
    yield f'map "$request_method:{"".join(conditions.values())}" {name} {{'
    for route in place.routes:
        methods = "|".join(re.escape(method.upper()) for method in route.methods)
        wanted = {(header.lower(), value) for header, value in route.headers.items()}
        flags = "".join("1" if pair in wanted else "." for pair in conditions)
        yield f'    "~^{f"(?:{methods})" if methods else "[^:]*"}:{flags}$" {targets[id(route)].number};'
    yield f"    default {404 if any(route.headers for route in place.routes) else 405};"
    yield "}"
