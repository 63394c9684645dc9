"""The pattern of the route that served a request, from what its framework leaves in the scope."""

from __future__ import annotations

from msctl.hosting.asgi.scope import Scope


def route_pattern(scope: Scope) -> str:
    """Return the pattern, such as /users/{id}: FastAPI, Starlette and Litestar tell it; empty for others."""
    route = scope.get("route")
    pattern = getattr(route, "path_format", None) or scope.get("path_template")
    if not isinstance(pattern, str):
        return ""
    mounted = str(scope.get("root_path", "")).removeprefix(str(scope.get("app_root_path", "")))
    if hasattr(route, "routes"):  # a mount, whose own path is in both
        mounted = mounted.removesuffix(str(getattr(route, "path", "")))
    parameters = scope.get("path_params") or {}
    if "app_root_path" not in scope or any(f"{{{name}}}" not in pattern for name in parameters):
        return pattern  # a mount with parameters would make a label of each value
    return mounted + pattern
