"""Which ASGI applications match `path` without `root_path`. Pure.

ASGI has `path` begin with `root_path`, and Starlette, Django, Quart, Litestar and BlackSheep take it off. The
frameworks below do not, and would answer 404 to every request behind a prefix.
"""

from __future__ import annotations

_FRAMEWORKS = frozenset({"falcon", "sanic", "socketio", "engineio"})
_WRAPPERS = 8
"""Middlewares that are looked through: those that keep what they wrap as `app`."""


def expects_bare_path(application: object) -> bool:
    for _ in range(_WRAPPERS):
        if application is None:
            return False
        if any(base.__module__.partition(".")[0] in _FRAMEWORKS for base in type(application).__mro__):
            return True
        application = getattr(application, "app", None)
    return False
