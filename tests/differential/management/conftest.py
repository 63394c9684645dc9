"""Either broker's management API, and a virtual host of one's own in it."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.support.broker import Broker
from tests.support.rabbitmq import unique


@dataclass(frozen=True)
class Answer:
    status: int
    document: Any
    headers: dict[str, str]


class Api:
    """Requests to a management API as `guest`; paths are below `/api/`, `{v}` is the test's own vhost."""

    def __init__(self, session: aiohttp.ClientSession, base: str, vhost: str) -> None:
        self.base = base
        self.vhost = vhost
        self._session = session

    async def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        user: str = "guest",
        password: str = "guest",
        raw: bytes | None = None,
    ) -> Answer:
        credentials = b64encode(f"{user}:{password}".encode()).decode()
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        url = URL(f"{self.base}/api/{path.replace('{v}', self.vhost)}", encoded=True)
        headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
        async with self._session.request(method, url, data=data, headers=headers) as response:
            text = await response.read()
            return Answer(response.status, json.loads(text) if text else None, dict(response.headers))

    async def get(self, path: str, **options: Any) -> Any:
        """The document at a path, which must be there."""
        answer = await self.request("GET", path, **options)
        assert answer.status == 200, answer
        return answer.document

    async def put(self, path: str, body: object = None) -> int:
        return (await self.request("PUT", path, {} if body is None else body)).status

    async def post(self, path: str, body: object) -> Any:
        answer = await self.request("POST", path, body)
        assert answer.status < 300, answer
        return answer.document

    async def delete(self, path: str) -> int:
        return (await self.request("DELETE", path)).status

    async def publish(self, key: str, payload: str, exchange: str = "amq.default", **more: Any) -> bool:
        body = {"properties": {}, "routing_key": key, "payload": payload, "payload_encoding": "string"}
        routed = (await self.post(f"exchanges/{{v}}/{exchange}/publish", body | more))["routed"]
        assert isinstance(routed, bool)
        return routed

    async def take(self, queue: str, count: int = 10, ackmode: str = "ack_requeue_false") -> list[Any]:
        body = {"count": count, "ackmode": ackmode, "encoding": "auto"}
        found: list[Any] = await self.post(f"queues/{{v}}/{queue}/get", body)
        return found


@pytest.fixture
async def api(broker: Broker) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession() as session:
        made = Api(session, broker.management, unique("vhost"))
        assert await made.put("vhosts/{v}") == 201
        yield made
        assert await made.delete("vhosts/{v}") == 204
