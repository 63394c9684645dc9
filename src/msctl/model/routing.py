"""Conflicts between routes: two that match the same requests.

Pure. Below config, which refuses such routes, and the gateway, which follows them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from msctl.model.route_spec import RouteSpec


@dataclass(frozen=True, slots=True)
class RouteConflict:
    """`later` matches requests that `earlier` matches too, with equal precedence.

    `shadowed` is true where nothing at all is left for `later`. Both are indexes of the routes.
    """

    earlier: int
    later: int
    shadowed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class RouteExplanation:
    """Which route, service and instance a request would take, and why.

    `route` is None for a request that no route takes; `status` is what the gateway would then
    answer by itself, and None where an upstream would answer. `steps` are sentences, in the order
    in which they were decided.
    """

    method: str
    target: str
    route: RouteSpec | None
    service: str | None
    instance: str | None
    upstream_path: str | None
    status: int | None
    steps: tuple[str, ...]


class RouteView(Protocol):
    """The routes of a running gateway. Raises MsctlError if no gateway runs."""

    def routes(self) -> tuple[RouteSpec, ...]:
        """All routes, most specific first, which is the order of matching."""
        ...

    def explain(self, method: str, target: str, headers: Mapping[str, str]) -> RouteExplanation:
        """The route, service and instance for such a request, and why."""
        ...


def conflicts(routes: Sequence[RouteSpec]) -> tuple[RouteConflict, ...]:
    """Routes that are duplicates of an earlier one, wholly (`shadowed`) or for some hosts or methods.

    Each route stands for one atom per host and method; a more specific atom takes precedence over a
    less specific one and never hides all of it, so only equal atoms conflict.
    """
    owners: dict[_Atom, int] = {}
    found: list[RouteConflict] = []
    for later, route in enumerate(routes):
        atoms = list(_atoms(route))
        clashes: dict[int, list[_Atom]] = {}
        for atom in atoms:
            owner = owners.setdefault(atom, later)
            if owner != later:
                clashes.setdefault(owner, []).append(atom)
        lost = sum(len(group) for group in clashes.values())
        for earlier, group in clashes.items():
            whole = lost == len(atoms)
            other = routes[earlier]
            what = f"matches the same requests as the route {other.path!r} of {other.service!r}"
            only = "" if whole else f" for {', '.join(sorted(_describe(atom) for atom in group))}"
            found.append(RouteConflict(earlier, later, whole, f"the route {route.path!r} {what}{only}"))
    return tuple(found)


_Atom = tuple[str, tuple[str, ...], bool, str, frozenset[tuple[str, str]]]


def _atoms(route: RouteSpec) -> Iterator[_Atom]:
    # Variables match the same whatever their names.
    elements = tuple("{}" if is_variable(element) else element for element in route_elements(route))
    headers = frozenset((name.lower(), value) for name, value in route.headers.items())
    hosts = [host.lower() for host in route.hosts] or [""]
    methods = [method.upper() for method in route.methods] or [""]
    for host, method in itertools.product(dict.fromkeys(hosts), dict.fromkeys(methods)):
        yield host, elements, route.exact, method, headers


def _describe(atom: _Atom) -> str:
    host, _, _, method, _ = atom
    return " ".join(part for part in (method, host) if part) or "every host and method"


def route_elements(route: RouteSpec) -> tuple[str, ...]:
    """The elements of a route's path; a prefix ignores a trailing slash."""
    path = route.path
    if not route.exact:
        path = path.rstrip("/")
        if not path:
            return ()
    return tuple(path[1:].split("/"))


def is_variable(element: str) -> bool:
    return element.startswith("{") and element.endswith("}")
