"""The pattern of a route is what metrics are labelled by: never a path that a client chose."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from msctl.hosting.asgi.route_pattern import route_pattern


def scope(
    pattern: str | None, root: str = "", parameters: tuple[str, ...] = (), **more: Any
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "root_path": root,
        "app_root_path": "/api",
        "path_params": dict.fromkeys(parameters, "x"),
    }
    if pattern is not None:
        found["route"] = SimpleNamespace(path_format=pattern, **more)
    return found


@pytest.mark.parametrize(
    ("given", "pattern"),
    [
        (scope(None), ""),
        ({}, ""),
        ({"path_template": "/users/{id:int}"}, "/users/{id:int}"),
        (scope("/users/{id}", "/api", ("id",)), "/users/{id}"),
        (scope("/users/{id}", "/api/admin", ("id",)), "/admin/users/{id}"),
        (scope("/users/{id}", "/api/tenant-7", ("id", "tenant")), "/users/{id}"),
        (scope("/files/{path}", "/api/files", ("path",), path="/files", routes=[]), "/files/{path}"),
        (scope("/files/{path}", "/api/a/files", ("path",), path="/files", routes=[]), "/a/files/{path}"),
    ],
)
def test_pattern_includes_mounts_without_their_values(given: dict[str, Any], pattern: str) -> None:
    assert route_pattern(given) == pattern
