"""The gateway's choice among routes, laid out for a proxy that knows only an order of patterns; pure.

msctl prefers the more specific host, then the path that is literal for longer, then the longer
path, then the route that names methods, then the one with more headers (msctl/gateway/routes.py).
Here that becomes, for each host, the list of path patterns in the order in which they must be
tried, and for each pattern the routes that may take a request there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from msctl.model import RouteSpec
from msctl.routing import is_variable, route_elements


@dataclass(frozen=True, slots=True)
class Pattern:
    """Paths: these elements alone if `exact`, else these and whatever follows."""

    elements: tuple[str, ...]
    exact: bool

    @property
    def has_variables(self) -> bool:
        return any(map(is_variable, self.elements))

    def covers(self, other: Pattern) -> bool:
        """Whether every path of the other is one of ours."""
        if self.exact and (not other.exact or len(self.elements) != len(other.elements)):
            return False
        if len(self.elements) > len(other.elements):
            return False
        pairs = zip(self.elements, other.elements, strict=False)
        return all(is_variable(mine) or mine == theirs for mine, theirs in pairs)

    @property
    def rank(self) -> tuple[int, ...]:
        """What sorts before is tried before; at each element a literal comes before a variable."""
        return (*(int(is_variable(element)) for element in self.elements), 2 if self.exact else 3)


@dataclass(frozen=True, slots=True)
class Place:
    """A pattern and its routes, best first; the last one is the only one that may be unconditional."""

    pattern: Pattern
    routes: tuple[RouteSpec, ...]


@dataclass(frozen=True, slots=True)
class HostPlan:
    """All that one host name is for; `host` is empty for every name that no other plan is for."""

    host: str
    places: tuple[Place, ...]


def plan(routes: Sequence[RouteSpec]) -> tuple[HostPlan, ...]:
    hosts = dict.fromkeys(host.lower() for route in routes for host in route.hosts)
    return tuple(HostPlan(host, tuple(_places(host, routes))) for host in (*hosts, ""))


def is_conditional(route: RouteSpec) -> bool:
    return bool(route.methods or route.headers)


def pattern_of(route: RouteSpec) -> Pattern:
    return Pattern(route_elements(route), route.exact)


def _places(host: str, routes: Sequence[RouteSpec]) -> Iterator[Place]:
    groups = _groups(host, routes)
    patterns = dict.fromkeys(pattern_of(route) for group in groups for route in group)
    for pattern in sorted(patterns, key=lambda pattern: pattern.rank):
        chosen = tuple(_takers(pattern, groups))
        if chosen:
            yield Place(pattern, chosen)


def _groups(host: str, routes: Sequence[RouteSpec]) -> list[list[RouteSpec]]:
    """The routes that a host's requests may take: those of the host first, those of every host last."""
    suffixes = sorted(
        {name.lower() for route in routes for name in route.hosts if name.startswith("*.")},
        key=len,
        reverse=True,
    )
    names = [host] if host else []
    names += [suffix for suffix in suffixes if suffix != host and host.endswith(suffix[1:])]
    groups = [[route for route in routes if name in map(str.lower, route.hosts)] for name in names]
    return [*groups, [route for route in routes if not route.hosts]]


def _takers(pattern: Pattern, groups: Sequence[Sequence[RouteSpec]]) -> Iterator[RouteSpec]:
    for group in groups:
        fitting = [(order, route) for order, route in enumerate(group) if pattern_of(route).covers(pattern)]
        for _, route in sorted(fitting, key=_preference):
            yield route
            if not is_conditional(route):
                return


def _preference(item: tuple[int, RouteSpec]) -> tuple[tuple[int, ...], bool, int, int]:
    order, route = item
    return pattern_of(route).rank, not route.methods, -len(route.headers), order
