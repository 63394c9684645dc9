"""The gateway's precedence of routes, for proxies that try patterns in order. Pure.

The gateway prefers the more specific host, then the path with more literal elements, then the longer
path, then the route with methods, then the one with more headers (gateway/routing/routes.py). A proxy
tries patterns in order and takes the first match. So each host gets its patterns in the order in which
they must be tried, and each pattern its routes. Invariant: the first pattern that a path matches lists
all routes that could take it. It holds because the patterns are closed under intersection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from msctl.export.kind import ExportError
from msctl.model.route_spec import RouteSpec
from msctl.model.routing import is_variable, route_elements

MAX_PATTERNS = 500


@dataclass(frozen=True, slots=True)
class Pattern:
    """Paths with these elements; if not `exact`, with more after them."""

    elements: tuple[str, ...]
    exact: bool

    @property
    def has_variables(self) -> bool:
        return any(map(is_variable, self.elements))

    def covers(self, other: Pattern) -> bool:
        """Whether this pattern matches every path that the other matches."""
        if self.exact and (not other.exact or len(self.elements) != len(other.elements)):
            return False
        if len(self.elements) > len(other.elements):
            return False
        pairs = zip(self.elements, other.elements, strict=False)
        return all(mine == theirs or (is_variable(mine) and theirs != "") for mine, theirs in pairs)

    def meet(self, other: Pattern) -> Pattern | None:
        """Return the pattern of the paths that both match; None if there are none."""
        short, long = sorted((self, other), key=lambda pattern: len(pattern.elements))
        if len(short.elements) < len(long.elements) and short.exact:
            return None
        elements = []
        for one, two in zip(short.elements, long.elements, strict=False):
            if one != two and not is_variable(one) and not is_variable(two):
                return None
            if "" in (one, two) and one != two:  # a variable is no empty element
                return None
            elements.append(two if is_variable(one) else one)
        rest = long.elements[len(short.elements) :]
        exact = long.exact or (short.exact and len(short.elements) == len(long.elements))
        return Pattern((*elements, *rest), exact)

    @property
    def rank(self) -> tuple[int, ...]:
        """The sort key: patterns are tried in ascending order, a literal element before a variable."""
        return (*(int(is_variable(element)) for element in self.elements), 2 if self.exact else 3)


@dataclass(frozen=True, slots=True)
class Place:
    """A pattern and its routes, best first; only the last may be unconditional."""

    pattern: Pattern
    routes: tuple[RouteSpec, ...]


@dataclass(frozen=True, slots=True)
class HostPlan:
    """The patterns of one host; an empty `host` stands for all other hosts."""

    host: str
    places: tuple[Place, ...]


def plan(routes: Sequence[RouteSpec]) -> tuple[HostPlan, ...]:
    """Return the patterns of every host that routes name, then those of all other hosts."""
    hosts = dict.fromkeys(host.lower() for route in routes for host in route.hosts)
    return tuple(HostPlan(host, tuple(_places(host, routes))) for host in (*hosts, ""))


def is_conditional(route: RouteSpec) -> bool:
    return bool(route.methods or route.headers)


def pattern_of(route: RouteSpec) -> Pattern:
    return Pattern(route_elements(route), route.exact)


def _places(host: str, routes: Sequence[RouteSpec]) -> Iterator[Place]:
    groups = _groups(host, routes)
    declared = dict.fromkeys(pattern_of(route) for group in groups for route in group)
    ordered = sorted(_closed(declared), key=lambda pattern: pattern.rank)
    places = [Place(pattern, tuple(_matching_routes(pattern, groups))) for pattern in ordered]
    for index, place in enumerate(places):
        after = next((later for later in places[index + 1 :] if later.pattern.covers(place.pattern)), None)
        if place.pattern in declared or after is None or list(after.routes) != list(place.routes):
            yield place


def _closed(patterns: Iterable[Pattern]) -> list[Pattern]:
    """Close the patterns under intersection.

    The narrowest pattern that a path matches is then covered by every other that it matches, so its list
    of routes is complete.
    """
    found: dict[Pattern, None] = {}
    for pattern in patterns:
        pending = [pattern]
        while pending:
            new = pending.pop()
            if new in found:
                continue
            pending += [common for known in found if (common := known.meet(new)) is not None]
            found[new] = None
            if len(found) > MAX_PATTERNS:
                raise ExportError(
                    f"services: the routes overlap in more than {MAX_PATTERNS} ways",
                    hint="use fewer routes with variables such as {id} in their paths",
                )
    return list(found)


def _groups(host: str, routes: Sequence[RouteSpec]) -> list[list[RouteSpec]]:
    """Group the routes of a host: its own first, then its suffixes', then those without a host."""
    suffixes = sorted(
        {name.lower() for route in routes for name in route.hosts if name.startswith("*.")},
        key=len,
        reverse=True,
    )
    names = [host] if host else []
    names += [suffix for suffix in suffixes if suffix != host and host.endswith(suffix[1:])]
    groups = [[route for route in routes if name in map(str.lower, route.hosts)] for name in names]
    return [*groups, [route for route in routes if not route.hosts]]


def _matching_routes(pattern: Pattern, groups: Sequence[Sequence[RouteSpec]]) -> Iterator[RouteSpec]:
    for group in groups:
        fitting = [(order, route) for order, route in enumerate(group) if pattern_of(route).covers(pattern)]
        for _, route in sorted(fitting, key=_preference):
            yield route
            if not is_conditional(route):
                return


def _preference(item: tuple[int, RouteSpec]) -> tuple[tuple[int, ...], bool, int, int]:
    order, route = item
    return pattern_of(route).rank, not route.methods, -len(route.headers), order
