"""hello and users answer byte for byte what the course's Go programs answer."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from msctl.services import hello, users


@pytest.mark.parametrize(
    ("app", "path", "content_type", "body"),
    [
        (hello.create_app, "/hello", "text/plain; charset=utf-8", b"Hello, World!"),
        (
            users.create_app,
            "/users",
            "application/json",
            b'[{"id":1,"name":"Alice"},{"id":2,"name":"Bob"}]\n',
        ),
    ],
)
async def test_the_answer_is_the_courses(
    app: type[web.Application], path: str, content_type: str, body: bytes
) -> None:
    async with TestClient(TestServer(app())) as client, client.get(path) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == content_type
        assert await response.read() == body
