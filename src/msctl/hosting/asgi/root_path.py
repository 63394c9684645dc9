"""Which ASGI applications match `path` without `root_path`.

ASGI has `path` begin with `root_path`, and Starlette, Django, Quart, Litestar and BlackSheep take it off.
Others do not, and would answer 404 to every request behind a prefix: older frameworks, and applications
without a framework, such as a function that compares `scope["path"]`. These are told by their code: who
takes the prefix off reads the scope's "root_path".
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

_BARE = frozenset({"falcon", "sanic", "socketio", "engineio"})
_WHOLE = frozenset({"blacksheep", "django", "fastapi", "litestar", "quart", "starlette"})
_OBJECTS = 32
"""Applications and middlewares that are looked through, the outermost first."""
_MODULES = 200
"""Modules of the application's package that are read, its own first."""
_READS = re.compile(r"""["']root_path["']""")


def expects_bare_path(application: object) -> bool:
    for layer in _layers(application):
        frameworks = {base.__module__.partition(".")[0] for base in type(layer).__mro__}
        if frameworks & _BARE:
            return True
        if frameworks & _WHOLE:
            return False
    return not _reads_root_path(application)


def _layers(application: object) -> Iterator[object]:
    """Yield the application, what it wraps, and what that wraps."""
    found: list[object] = [application]
    for layer in found:
        yield layer
        for wrapped in _wrapped(layer):
            if len(found) < _OBJECTS and not any(wrapped is one for one in found):
                found.append(wrapped)


def _wrapped(layer: object) -> Iterator[object]:
    """Yield what an application may call: attributes, and what its function encloses or names."""
    held: list[Any] = []
    call: Any = layer
    if isinstance(layer, functools.partial):
        held += [layer.func, *layer.args, *layer.keywords.values()]
    elif not inspect.isroutine(layer):
        held += vars(layer).values() if hasattr(layer, "__dict__") else ()
        call = type(layer).__call__ if callable(layer) else None
    held.append(getattr(call, "__self__", None))
    function = inspect.unwrap(getattr(call, "__func__", call))
    if inspect.isfunction(function):
        with suppress(ValueError):  # a cell that is still empty
            closed = inspect.getclosurevars(function)
            held += [*closed.nonlocals.values(), *closed.globals.values()]
    for one in held:
        if callable(one) and not inspect.isclass(one):
            yield one


def _reads_root_path(application: object) -> bool:
    """Whether the package that the application is defined in names "root_path"."""
    home = application if inspect.isroutine(application) else type(application)
    own = str(getattr(home, "__module__", ""))
    package = own.partition(".")[0]
    names = [name for name in sys.modules.copy() if name.partition(".")[0] == package]

    def distance(name: str) -> tuple[bool, bool, str]:
        return name != own, not own.startswith(f"{name}."), name

    for name in sorted(names, key=distance)[:_MODULES]:
        file = getattr(sys.modules.get(name), "__file__", None)
        try:
            if file and file.endswith(".py") and _READS.search(Path(file).read_text("utf-8", "replace")):
                return True
        except OSError:
            continue
    return False
