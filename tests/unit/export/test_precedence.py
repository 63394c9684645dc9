"""A proxy that tries patterns in order, and their routes in order, chooses as the gateway does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msctl.export.kind import ExportError
from msctl.export.proxies import precedence
from msctl.export.proxies.precedence import Pattern, plan
from msctl.gateway.routing.routes import RouteTable
from msctl.model.route_spec import RouteSpec
from msctl.model.routing import is_variable

ELEMENTS = st.sampled_from(["a", "b", "{x}"])
PATHS = st.lists(ELEMENTS, max_size=3).map(lambda elements: "/" + "/".join(elements))
ROUTES = st.builds(
    RouteSpec,
    path=PATHS,
    service=st.sampled_from(["one", "two", "three"]),
    exact=st.booleans(),
    methods=st.sampled_from([(), ("GET",), ("POST", "PUT")]),
    headers=st.sampled_from([{}, {"X-Track": "beta"}]),
    hosts=st.sampled_from([(), ("shop.example",), ("*.example",), ("*.example", "other.test")]),
)
REQUESTS = st.tuples(
    st.sampled_from(["GET", "POST", "DELETE"]),
    st.sampled_from(["shop.example", "www.example", "other.test", "else.test"]),
    st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=4).map(tuple),
    st.sampled_from([{}, {"X-Track": "beta"}, {"X-Track": "alpha"}]),
)


def matches(pattern: Pattern, elements: Sequence[str]) -> bool:
    if len(elements) < len(pattern.elements) or (pattern.exact and len(elements) > len(pattern.elements)):
        return False
    return all(
        mine == theirs or (is_variable(mine) and theirs != "")
        for mine, theirs in zip(pattern.elements, elements, strict=False)
    )


def takes(route: RouteSpec, method: str, headers: Mapping[str, str]) -> bool:
    return (not route.methods or method in route.methods) and all(
        headers.get(name) == value for name, value in route.headers.items()
    )


def chosen(
    routes: Sequence[RouteSpec], method: str, host: str, elements: tuple[str, ...], headers: Mapping[str, str]
) -> RouteSpec | None:
    """Choose as a proxy does: the best server, the first place, the first route."""
    plans = {found.host: found for found in plan(routes)}
    names = [
        host,
        *sorted((name for name in plans if name.startswith("*.") and host.endswith(name[1:])), key=len)[::-1],
    ]
    server = next((plans[name] for name in names if name in plans), plans[""])
    place = next((place for place in server.places if matches(place.pattern, elements)), None)
    if place is None:
        return None
    return next((route for route in place.routes if takes(route, method, headers)), None)


@settings(max_examples=3 * settings().max_examples)
@given(st.lists(ROUTES, max_size=6), REQUESTS)
def test_the_plan_chooses_the_route_that_the_gateway_chooses(
    routes: list[RouteSpec], request: tuple[str, str, tuple[str, ...], dict[str, str]]
) -> None:
    method, host, elements, headers = request
    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    expected = RouteTable(routes).match(method, host, elements, fields)
    found = chosen(routes, method, host, elements, headers)
    assert found == (None if expected is None else expected.rule.spec)


def test_routes_that_take_only_some_paths_of_another_are_found_there() -> None:
    """The route of the host takes /a and not /a/b, which the route of every host takes."""
    routes = [RouteSpec("/a", "any"), RouteSpec("/{x}", "host", exact=True, hosts=("shop.example",))]
    assert chosen(routes, "GET", "shop.example", ("a",), {}) == routes[1]
    assert chosen(routes, "GET", "shop.example", ("a", "b"), {}) == routes[0]


def test_routes_that_overlap_in_too_many_ways_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precedence, "MAX_PATTERNS", 100)
    paths = ["/" + "/".join("a" if bit == other else "{x}" for other in range(7)) for bit in range(7)]
    with pytest.raises(ExportError, match="overlap in more than"):
        plan([RouteSpec(path, "one") for path in paths])


def test_an_exact_path_comes_before_a_prefix_and_a_literal_before_a_variable() -> None:
    routes = [
        RouteSpec("/{x}", "v"),
        RouteSpec("/a", "p"),
        RouteSpec("/a", "e", exact=True),
        RouteSpec("/a/b", "d"),
    ]
    (host,) = plan(routes)
    assert [place.routes[0].service for place in host.places] == ["d", "e", "p", "v"]
