"""Which framework an application is of, told by looking at the object: its type and how it is called.

| called with | is |
|---|---|
| - (an `aiohttp.web.Application`) | aiohttp |
| scope, receive, send | ASGI 3 |
| environ, start_response | WSGI |
| scope alone, in one step of two | ASGI 2, which is refused |
| nothing, or one ServiceContext (functions and classes only) | a factory of one of these |
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import web

from msctl.errors import MsctlError
from msctl.model.service_context import ServiceContext
from msctl.model.service_spec import Framework

EXPECTED = (
    "expected an aiohttp.web.Application, an ASGI 3 or WSGI application, or a function that returns one"
)


class NotAnApplicationError(MsctlError):
    """What `app` names is no application that can be hosted, or cannot be told."""


@dataclass(frozen=True, slots=True)
class Found:
    """An application and its framework."""

    framework: Framework
    application: Any


async def find_application(
    attribute: object, target: str, context: ServiceContext, framework: Framework | None
) -> Found:
    """Return the application that `attribute` is, or that it makes as a factory.

    `framework` is what the configuration says, for objects that do not tell. `target` names the object in
    errors. Raises NotAnApplicationError, and whatever the factory raises.
    """
    kind = _kind(attribute, target)
    if kind is _FACTORY:
        factory = cast(Callable[..., object], attribute)
        made = factory(context) if _required(factory) else factory()
        attribute = await cast(Awaitable[object], made) if inspect.isawaitable(made) else made
        target = f"what {target} returns"
        kind = _kind(attribute, target)
        if kind is _FACTORY:
            raise NotAnApplicationError(f"{target} is {_shown(attribute)}; {EXPECTED}")
    if isinstance(attribute, web.Application):
        if framework not in (None, Framework.AIOHTTP):
            raise NotAnApplicationError(
                f'{target} is an aiohttp.web.Application, not what framework = "{framework}" says'
            )
        return Found(Framework.AIOHTTP, attribute)
    if framework is Framework.AIOHTTP:
        raise NotAnApplicationError(f"{target} is {_shown(attribute)}, not an aiohttp.web.Application")
    if framework is not None:
        return Found(framework, attribute)
    if kind is None:
        raise NotAnApplicationError(
            f"cannot tell what {target} is: {_shown(attribute)} can be called in several ways; "
            'say it with framework = "asgi" or "wsgi"'
        )
    return Found(cast(Framework, kind), attribute)


_FACTORY = object()


def _kind(attribute: object, target: str) -> object:
    """Return a Framework, _FACTORY, or None if it cannot be told. Raises NotAnApplicationError."""
    if isinstance(attribute, web.Application):
        return Framework.AIOHTTP
    if not callable(attribute):
        raise NotAnApplicationError(f"{target} is {_shown(attribute)}; {EXPECTED}")
    parameters = _positional(attribute)
    if parameters is None and not _is_code(attribute) and _is_async(attribute):
        return Framework.ASGI
    if parameters is None:
        return _kind_of_wrapped(attribute, target)
    required = [p.name for p in parameters if p.default is p.empty]
    makes = _is_code(attribute)
    asynchronous = _is_async(attribute)
    if len(required) == 3 and not inspect.isclass(attribute):
        return Framework.ASGI
    if len(required) == 2 and not asynchronous and not inspect.isclass(attribute):
        return Framework.WSGI
    if required == ["scope"] and not asynchronous:
        raise NotAnApplicationError(
            f"{target} is an ASGI 2 application (called with scope alone), which is not supported: make it "
            "ASGI 3, as asgiref.compatibility.guarantee_single_callable does"
        )
    if len(required) <= 1 and makes:
        return _FACTORY
    raise NotAnApplicationError(
        f"{target} is {_shown(attribute)}, called with {', '.join(required) or 'nothing'}; {EXPECTED}"
    )


def _kind_of_wrapped(attribute: object, target: str) -> object:
    """A middleware that says nothing of how it is called is of the kind of its `app`; None without one."""
    wrapped = getattr(attribute, "app", None)
    try:
        kind = None if wrapped is None or inspect.isclass(wrapped) else _kind(wrapped, target)
    except NotAnApplicationError:
        return None
    return None if kind is _FACTORY else kind


def _positional(attribute: Callable[..., object]) -> list[inspect.Parameter] | None:
    """Return the positional parameters; None where the signature does not say how it is called."""
    # Some middlewares set it on the object itself.
    own = None if inspect.isclass(attribute) else getattr(attribute, "__dict__", {}).get("__call__")
    try:
        parameters = list(inspect.signature(own or attribute).parameters.values())
    except (TypeError, ValueError):  # some callables of C have no signature
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p for p in parameters if p.kind in positional]


def _required(factory: Callable[..., object]) -> bool:
    parameters = _positional(factory) or ()
    return any(p.default is p.empty for p in parameters)


def _is_code(attribute: object) -> bool:
    """Whether it is something that makes objects, rather than an object that can be called."""
    return inspect.isroutine(attribute) or inspect.isclass(attribute) or hasattr(attribute, "func")


def _is_async(attribute: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(attribute) or (
        not inspect.isroutine(attribute) and inspect.iscoroutinefunction(type(attribute).__call__)
    )


def _shown(attribute: object) -> str:
    """Name an object by what it is, not by its repr: that may be long, or hold secrets."""
    if inspect.ismodule(attribute):
        return f"the module {attribute.__name__}"
    if inspect.isclass(attribute):
        return f"the class {attribute.__module__}.{attribute.__qualname__}"
    if inspect.isroutine(attribute):
        return f"the function {getattr(attribute, '__qualname__', attribute)}"
    if attribute is None:
        return "None"
    kind = type(attribute)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
