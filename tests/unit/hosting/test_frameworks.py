"""What an application is called with says which framework it is of; what cannot be told is named."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import pytest
from aiohttp import web

from msctl.hosting.frameworks import NotAnApplicationError, find_application
from msctl.model.service_context import ServiceContext
from msctl.model.service_spec import Framework

CONTEXT = ServiceContext(name="x", instance="x-1", host="127.0.0.1", port=None, amqp_url="amqp://x/", env={})


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    return []


def asgi2(scope: Any) -> Any: ...


def called_anyhow(*args: Any, **kwargs: Any) -> Any: ...


class AsgiObject:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class AsyncAnyhow:
    async def __call__(self, *args: Any) -> None: ...


class Wrapping:
    """A middleware that says nothing of how it is called."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


class CallSetByInit:
    """As Sentry's middleware is."""

    def __init__(self) -> None:
        vars(self)["__call__"] = asgi

    def __call__(self, *args: Any) -> Any: ...


class WsgiObject:
    def __call__(self, env: Any, start: Any, /) -> list[bytes]:
        return []


class Asgi2Class:
    def __init__(self, scope: Any) -> None: ...


class Tornado:
    def __call__(self, request: Any) -> None: ...


async def found(attribute: object, framework: Framework | None = None) -> Framework:
    return (await find_application(attribute, "main:app", CONTEXT, framework)).framework


async def given(context: ServiceContext) -> Any:
    assert context is CONTEXT
    return asgi


@pytest.mark.parametrize(
    ("attribute", "framework"),
    [
        (web.Application(), Framework.AIOHTTP),
        (web.Application, Framework.AIOHTTP),
        (asgi, Framework.ASGI),
        (AsgiObject(), Framework.ASGI),
        (AsgiObject, Framework.ASGI),
        (AsgiObject().__call__, Framework.ASGI),
        (AsyncAnyhow(), Framework.ASGI),
        (Wrapping(AsgiObject()), Framework.ASGI),
        (Wrapping(Wrapping(wsgi)), Framework.WSGI),
        (CallSetByInit(), Framework.ASGI),
        (functools.partial(asgi), Framework.ASGI),
        (given, Framework.ASGI),
        (lambda: asgi, Framework.ASGI),
        (lambda context: AsgiObject(), Framework.ASGI),
        (lambda scale=1: asgi, Framework.ASGI),
        (wsgi, Framework.WSGI),
        (WsgiObject(), Framework.WSGI),
        (WsgiObject, Framework.WSGI),
        (lambda: [WsgiObject()][0], Framework.WSGI),
    ],
)
async def test_object_tells_its_framework(attribute: object, framework: Framework) -> None:
    assert await found(attribute) is framework


@pytest.mark.parametrize(
    ("attribute", "fragment"),
    [
        (asgi2, "ASGI 2"),
        (Asgi2Class, "ASGI 2"),
        (called_anyhow, 'framework = "asgi"'),
        (Tornado(), "Tornado, called with request"),
        (None, "main:app is None"),
        (ModuleType("shop"), "the module shop"),
        ("secret", "a str"),
        (lambda: 7, "what main:app returns is an int"),
        (lambda: lambda: asgi, "what main:app returns is the function"),
        (lambda one, two, three, four: None, "called with one, two, three, four"),
    ],
)
async def test_what_cannot_be_hosted_is_named(attribute: object, fragment: str) -> None:
    with pytest.raises(NotAnApplicationError) as raised:
        await found(attribute)
    assert fragment in raised.value.message
    assert "secret" not in raised.value.message


async def test_configuration_says_what_the_object_does_not() -> None:
    assert await found(called_anyhow, Framework.WSGI) is Framework.WSGI
    assert await found(lambda: called_anyhow, Framework.ASGI) is Framework.ASGI


@pytest.mark.parametrize(
    ("attribute", "framework"), [(web.Application(), Framework.ASGI), (asgi, Framework.AIOHTTP)]
)
async def test_configuration_that_the_object_contradicts_is_refused(
    attribute: object, framework: Framework
) -> None:
    with pytest.raises(NotAnApplicationError):
        await found(attribute, framework)
