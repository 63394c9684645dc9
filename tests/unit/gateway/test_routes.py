"""The route table: hosts, methods, fields and variables, and the path that the service gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.gateway.message.target import path_elements
from msctl.gateway.routing import nearest
from msctl.gateway.routing.routes import (
    METHODS,
    NO_ROUTE,
    RouteTable,
    matched_prefix,
    replace_prefix,
    upstream_path,
)
from msctl.model.route_spec import RouteSpec


def service(table: RouteTable, path: str, method: str = "GET", host: str = "", **fields: str) -> str | None:
    given = [(name.encode(), value.encode()) for name, value in fields.items()]
    match = table.match(method, host, path_elements(path), given)
    return None if match is None else match.rule.spec.service


def test_a_wildcard_host_stands_for_at_least_one_label() -> None:
    table = RouteTable(
        [RouteSpec("/", "wild", hosts=("*.shop.test",)), RouteSpec("/", "exact", hosts=("a.shop.test",))]
    )
    hosts = ("b.shop.test", "b.c.shop.test", "a.shop.test", "shop.test", ".shop.test", "xshop.test", "")
    assert [service(table, "/x", host=host) for host in hosts] == ["wild", "wild", "exact", *[None] * 4]


def test_the_longer_suffix_and_then_any_host_are_tried_next() -> None:
    routes = [
        RouteSpec("/", "any"),
        RouteSpec("/", "short", hosts=("*.test",)),
        RouteSpec("/a", "long", hosts=("*.shop.TEST",)),
        RouteSpec("/b", "also long", hosts=("*.shop.test", "Other.test")),
    ]
    table = RouteTable(routes)
    assert [service(table, path, host="x.shop.test") for path in ("/a", "/b", "/c")] == [
        "long",
        "also long",
        "short",
    ]
    assert [service(table, "/b", host=host) for host in ("other.test", "x", "x.test")] == [
        "also long",
        "any",
        "short",
    ]
    found = [rule.spec.service for rule in table.candidates("x.shop.test", ("a",))]
    assert found == ["long", "short", "any"]


def test_a_route_takes_all_its_fields_and_the_case_of_names_makes_no_difference() -> None:
    routes = [RouteSpec("/", "any"), RouteSpec("/", "both", headers={"X-V": "1", "x-w": "2"})]
    table = RouteTable(routes)
    assert service(table, "/", **{"x-v": "1", "X-W": "2"}) == "both"
    assert service(table, "/", **{"X-V": "2", "x-v": "1", "x-w": "2"}) == "both"
    for fields in ({"x-v": "1"}, {"x-w": "2"}, {"x-v": "2", "x-w": "1"}, {"x-v": "1", "y": "2"}):
        assert service(table, "/", **fields) == "any"


def test_a_route_with_methods_precedes_one_without() -> None:
    table = RouteTable([RouteSpec("/", "any"), RouteSpec("/", "put", methods=("put",))])
    assert [service(table, "/", method) for method in ("PUT", "GET", "put")] == ["put", "any", "any"]


def test_the_methods_of_a_path_are_those_of_its_routes() -> None:
    routes = [
        RouteSpec("/a", "x", methods=("PUT", "get")),
        RouteSpec("/a", "y", methods=("LOCK",), headers={"X": "1"}),
        RouteSpec("/b", "z"),
        RouteSpec("/c", "h", hosts=("c.test",), methods=("PATCH",)),
    ]
    table = RouteTable(routes)
    assert table.methods("", ("a",), []) == ("GET", "PUT")
    assert table.methods("", ("a",), [(b"x", b"1")]) == ("LOCK", "GET", "PUT")
    assert table.methods("", ("b", "c"), []) == METHODS
    assert (table.methods("", ("c",), []), table.methods("c.test", ("c",), [])) == ((), ("PATCH",))
    assert table.all_methods() == (
        "GET",
        "PUT",
        "LOCK",
        *(name for name in METHODS if name not in ("GET", "PUT")),
    )
    assert RouteTable([]).all_methods() == ("OPTIONS",)
    assert METHODS == ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def test_the_nearest_routes_are_the_most_similar() -> None:
    table = RouteTable(
        [RouteSpec(path, "x") for path in ("/users", "/user-list", "/orders", "/payments", "/users")]
    )
    assert table.nearest("/user")[0] == "/users"
    assert table.nearest("/order", 1) == ("/orders",)
    assert len(table.nearest("/order")) == 3
    assert table.nearest("/payment")[0] == "/payments"


def test_the_nearest_route_among_a_thousand_is_found_and_few_are_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared = 0
    similarity = nearest._similarity

    def counted(one: frozenset[str], other: frozenset[str]) -> float:
        nonlocal compared
        compared += 1
        return similarity(one, other)

    monkeypatch.setattr(nearest, "_similarity", counted)
    table = RouteTable([RouteSpec(f"/service{number}/items", "x") for number in range(1000)])
    assert table.nearest("/service734/itmes")[0] == "/service734/items"
    assert table.nearest("/sevrice734/items/x", 1) == ("/service734/items",)
    assert compared <= 2 * (nearest.BUDGET + 3)
    for number in range(50):  # the same shape
        table.nearest(f"/orders/{number}")
    assert compared <= 3 * (nearest.BUDGET + 3)


def test_the_prefix_that_a_route_matched_has_the_bytes_of_the_request() -> None:
    [rule] = RouteTable([RouteSpec("/t/{id}", "x", strip_prefix=True)]).rules
    assert matched_prefix(rule, "/t/7/x") == "/t/7"
    assert matched_prefix(rule, "/t/a%2Fb/x%20y") == "/t/a%2Fb"
    [root] = RouteTable([RouteSpec("/", "x")]).rules
    assert matched_prefix(root, "/a") == "/"


def test_variables_have_the_values_of_the_path() -> None:
    table = RouteTable([RouteSpec("/a/{id}/b/{other}", "x"), RouteSpec("/plain", "y")])
    match = table.match("GET", "", ("a", "1", "b", "2", "3"), [])
    assert match is not None
    assert match.variables == {"id": "1", "other": "2"}
    plain = table.match("GET", "", ("plain",), [])
    assert plain is not None
    assert plain.variables == {}


def test_a_literal_element_precedes_a_variable_and_a_deeper_route_a_shallower_one() -> None:
    routes = [RouteSpec("/a/{id}", "variable"), RouteSpec("/a/me", "literal"), RouteSpec("/a", "short")]
    routes += [RouteSpec("/a/me", "exact", exact=True), RouteSpec("/a/{id}/x", "deep")]
    table = RouteTable(routes)
    paths = ("/a", "/a/", "/a/1", "/a/me", "/a/me/y", "/a/me/x", "/a/1/x", "/b")
    assert [service(table, path) for path in paths] == [
        "short",
        "short",
        "variable",
        "exact",
        "literal",
        "literal",
        "deep",
        None,
    ]


ELEMENTS = st.lists(st.sampled_from(["a", "b", "{v}", ""]), min_size=1, max_size=3)
ROUTES = st.builds(
    lambda elements, exact, methods, hosts: RouteSpec(
        "/" + "/".join(elements), "x", exact=exact, methods=methods, hosts=hosts
    ),
    ELEMENTS,
    st.booleans(),
    st.sampled_from([(), ("GET",), ("POST",)]),
    st.sampled_from([(), ("h.test",), ("*.test",)]),
)


@given(st.lists(ROUTES, max_size=6), ELEMENTS, st.sampled_from(["h.test", "g.test", "other"]))
def test_the_route_is_the_first_candidate_that_takes_the_request(
    routes: list[RouteSpec], elements: list[str], host: str
) -> None:
    table, path = RouteTable(routes), tuple(elements)
    candidates = [rule for rule in table.candidates(host, path) if rule.matches("GET", [])]
    assert table.find("GET", host, path, []) is (candidates[0] if candidates else None)


def test_no_route_belongs_to_no_service() -> None:
    assert (NO_ROUTE.rule.spec.service, NO_ROUTE.rule.order, NO_ROUTE.variables) == ("", -1, {})


@pytest.mark.parametrize(
    ("spec", "path", "upstream"),
    [
        (RouteSpec("/a", "x"), "/a/b%2f", "/a/b%2f"),
        (RouteSpec("/a", "x", strip_prefix=True), "/a/b%2f/", "/b%2f/"),
        (RouteSpec("/a", "x", strip_prefix=True), "/a", "/"),
        (RouteSpec("/a", "x", strip_prefix=True), "/a/", "/"),
        (RouteSpec("/", "x", strip_prefix=True), "/a", "/a"),
        (RouteSpec("/a/{id}", "x", strip_prefix=True), "/a/1/b", "/b"),
        (RouteSpec("/a", "x", rewrite="/v2"), "/a/b", "/v2/b"),
        (RouteSpec("/a", "x", rewrite="/v2/"), "/a/b", "/v2/b"),
        (RouteSpec("/a", "x", rewrite="/X"), "/a/b", "/X/b"),
        (RouteSpec("/a", "x", rewrite="/v2"), "/a", "/v2"),
        (RouteSpec("/a", "x", rewrite="/"), "/a/b/c", "/b/c"),
        (RouteSpec("/a", "x", exact=True, rewrite="/v2/all"), "/a", "/v2/all"),
    ],
)
def test_the_service_gets_the_path_that_the_route_says(spec: RouteSpec, path: str, upstream: str) -> None:
    (rule,) = RouteTable([spec]).rules
    assert upstream_path(rule, path) == upstream


def test_an_empty_prefix_leaves_a_path() -> None:
    (rule,) = RouteTable([RouteSpec("/a", "x")]).rules
    assert [replace_prefix(rule, path, "") for path in ("/a", "/a/b")] == ["/", "/b"]


def test_the_root_has_nearest_paths_too() -> None:
    """A route of the root that another host has is near to a request for the root."""
    table = RouteTable([RouteSpec("/", "x", hosts=("a.test",)), RouteSpec("/b", "x")])
    assert table.nearest("/") == ("/", "/b")
