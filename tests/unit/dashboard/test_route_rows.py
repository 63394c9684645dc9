"""The rows of the page's routes: the gateway's OpenAPI document is one of them, with its link."""

from __future__ import annotations

from msctl.dashboard.routes import route_rows
from msctl.model.route_spec import RouteSpec


def test_document_comes_first_and_has_a_link() -> None:
    rows = route_rows([RouteSpec("/users", "users")], "http://127.0.0.1:8080/openapi.json")
    assert [(row["path"], row.get("link")) for row in rows] == [
        ("/openapi.json", "http://127.0.0.1:8080/openapi.json"),
        ("/users", None),
    ]
    assert rows[0].keys() - {"link"} == rows[1].keys()


def test_without_a_document_there_are_routes_alone() -> None:
    assert [row["path"] for row in route_rows([RouteSpec("/users", "users")])] == ["/users"]
