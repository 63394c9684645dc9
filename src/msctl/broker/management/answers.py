"""Answers of the management API: JSON documents, RabbitMQ's errors, and the body of a request."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from msctl.broker.protocol.replies import AmqpError, ReplyCode

BODY_TIMEOUT_S = 10.0
JSON_TYPE = "application/json"
NO_CONTENT = 204
CREATED = 201


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, answer: web.Response) -> None:
        super().__init__(answer.status)
        self.answer = answer


def json_answer(value: object, *, status: int = 200) -> web.Response:
    body = msgspec.json.encode(value)
    return web.Response(body=body, status=status, headers={"Content-Type": JSON_TYPE})


def empty(status: int = NO_CONTENT, **headers: str) -> web.Response:
    return web.Response(status=status, headers=headers)


def error(status: int, name: str, reason: str) -> RefusedError:
    return RefusedError(json_answer({"error": name, "reason": reason}, status=status))


def bad_request(reason: str) -> RefusedError:
    return error(400, "bad_request", reason)


def missing() -> RefusedError:
    return error(404, "Object Not Found", "Not Found")


def refused_by_broker(found: AmqpError, *, with_code: bool = False) -> RefusedError:
    """RabbitMQ's answer for an error of AMQP; `with_code` is how it shows what a channel was closed with."""
    if found.code is ReplyCode.ACCESS_REFUSED:
        return error(401, "not_authorised", "Access refused.")
    if with_code:
        return bad_request(f"{found.code.value} {found.text.decode(errors='replace')}")
    if found.code is ReplyCode.NOT_FOUND:
        return error(404, "not_found", found.detail)
    return bad_request(found.detail)


async def read_object(request: web.Request) -> dict[str, Any]:
    """The JSON object in the body; empty without a body. Raises RefusedError."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            body = await request.read()
    except TimeoutError:
        raise error(408, "timeout", "the body did not arrive in time") from None
    if not body.strip():
        return {}
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise bad_request("not_json") from None
    if not isinstance(value, dict):
        raise bad_request("not_json")
    return value


def require(body: dict[str, Any], *names: str) -> None:
    """Raises RefusedError if the object lacks a key."""
    absent = [f"{{key_missing,{name}}}" for name in names if name not in body]
    if absent:
        raise bad_request("[" + ",\n ".join(absent) + "]")


def whole(value: object, name: str) -> int:
    """A number from 0, or its digits, which rabbitmqadmin sends. Raises RefusedError."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise bad_request(f"{{not_integer,{name}}}")
    return value


def mapping(value: object, name: str) -> dict[str, Any]:
    """An object; empty for null. Raises RefusedError."""
    found = value or {}
    if not isinstance(found, dict):
        raise bad_request(f"{{not_object,{name}}}")
    return found


def boolean(value: object, name: str) -> bool:
    """A boolean, or its name as text, which clients send, too. Raises RefusedError."""
    if value in (True, "true"):
        return True
    if value in (False, None, "false", ""):
        return False
    raise bad_request(f"{{not_boolean,{name}}}")
