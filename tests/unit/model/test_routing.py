"""Routes that would take each other's requests are found before anything starts."""

from __future__ import annotations

import pytest

from msctl.model.route_spec import RouteSpec
from msctl.model.routing import conflicts, is_variable, route_elements


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (RouteSpec("/a", "x"), RouteSpec("/a", "y")),
        (RouteSpec("/a", "x"), RouteSpec("/a/", "y")),
        (RouteSpec("/a/{id}", "x"), RouteSpec("/a/{name}", "y")),
        (RouteSpec("/a", "x", methods=("GET",)), RouteSpec("/a", "y", methods=("get",))),
        (RouteSpec("/a", "x", headers={"X-V": "1"}), RouteSpec("/a", "y", headers={"x-v": "1"})),
        (RouteSpec("/a", "x", hosts=("A.test",)), RouteSpec("/a", "y", hosts=("a.test",))),
        (RouteSpec("/a", "x", exact=True), RouteSpec("/a", "y", exact=True)),
    ],
)
def test_a_duplicate_is_shadowed(one: RouteSpec, other: RouteSpec) -> None:
    (conflict,) = conflicts([one, RouteSpec("/b", "z"), other])
    assert (conflict.earlier, conflict.later, conflict.shadowed) == (0, 2, True)
    assert "of 'x'" in conflict.reason


@pytest.mark.parametrize(
    "other",
    [
        RouteSpec("/a", "y", exact=True),
        RouteSpec("/a/b", "y"),
        RouteSpec("/a", "y", methods=("GET",)),
        RouteSpec("/a", "y", headers={"X": "1"}),
        RouteSpec("/a", "y", hosts=("a.test",)),
        RouteSpec("/A", "y"),
    ],
)
def test_a_more_specific_route_is_no_conflict(other: RouteSpec) -> None:
    assert conflicts([RouteSpec("/a", "x"), other]) == ()


def test_an_overlap_in_some_methods_says_which() -> None:
    routes = [RouteSpec("/a", "x", methods=("GET", "PUT")), RouteSpec("/a", "y", methods=("PUT", "POST"))]
    (conflict,) = conflicts(routes)
    assert not conflict.shadowed
    assert conflict.reason == "the route '/a' matches the same requests as the route '/a' of 'x' for PUT"


def test_two_routes_can_shadow_a_third_together() -> None:
    routes = [RouteSpec("/a", "x", methods=("GET",)), RouteSpec("/a", "y", methods=("PUT",))]
    found = conflicts([*routes, RouteSpec("/a", "z", methods=("GET", "PUT"))])
    assert [(conflict.earlier, conflict.later, conflict.shadowed) for conflict in found] == [
        (0, 2, True),
        (1, 2, True),
    ]


def test_an_overlap_names_hosts_and_methods_in_order() -> None:
    routes = [
        RouteSpec("/a", "x", methods=("GET", "PUT"), hosts=("b.test", "a.test")),
        RouteSpec("/a", "y", methods=("PUT", "GET", "LOCK"), hosts=("a.test", "b.test")),
    ]
    (conflict,) = conflicts(routes)
    assert not conflict.shadowed
    assert conflict.reason.endswith(" for GET a.test, GET b.test, PUT a.test, PUT b.test")


def test_an_overlap_of_hosts_alone_names_them() -> None:
    routes = [RouteSpec("/a", "x", hosts=("a.test",)), RouteSpec("/a", "y", hosts=("a.test", "b.test"))]
    assert conflicts(routes)[0].reason.endswith("of 'x' for a.test")


def test_routes_with_other_elements_in_place_of_a_variable_are_no_duplicates() -> None:
    assert conflicts([RouteSpec("/a/{id}", "x"), RouteSpec("/a/b", "y"), RouteSpec("/a/{id}/c", "z")]) == ()


@pytest.mark.parametrize(
    ("route", "elements"),
    [
        (RouteSpec("/", "x"), ()),
        (RouteSpec("//", "x"), ()),
        (RouteSpec("/a/b", "x"), ("a", "b")),
        (RouteSpec("/a/b/", "x"), ("a", "b")),
        (RouteSpec("/X/XX/", "x"), ("X", "XX")),
        (RouteSpec("/a/b/", "x", exact=True), ("a", "b", "")),
        (RouteSpec("/", "x", exact=True), ("",)),
    ],
)
def test_the_elements_of_a_path(route: RouteSpec, elements: tuple[str, ...]) -> None:
    assert route_elements(route) == elements


@pytest.mark.parametrize(
    ("element", "variable"),
    [("{id}", True), ("{}", True), ("{id", False), ("id}", False), ("id", False), ("", False)],
)
def test_a_variable_is_in_braces(element: str, variable: bool) -> None:
    assert is_variable(element) is variable
