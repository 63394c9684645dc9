"""Routes that would take each other's requests are found before anything starts."""

from __future__ import annotations

import pytest

from msctl.model.project import RouteSpec
from msctl.model.routing import conflicts


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
