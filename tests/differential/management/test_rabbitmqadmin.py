"""rabbitmqadmin, as the management plugin serves it, does the same with either broker."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.differential.management.conftest import Api
from tests.support.http import request
from tests.support.rabbitmq import RunningNode

pytestmark = pytest.mark.rabbitmq


@pytest.fixture(scope="session")
def program(rabbitmq_node: RunningNode, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin serves the script: nothing of it is in this repository."""
    path = tmp_path_factory.mktemp("rabbitmqadmin") / "rabbitmqadmin"
    path.write_bytes(request(f"{rabbitmq_node.management}/cli/rabbitmqadmin").body)
    return path


async def run(program: Path, api: Api, *words: str) -> str:
    """Its standard output; the test fails if it fails."""
    parts = urlsplit(api.base)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, program, "-H", parts.hostname or "", "-P", str(parts.port), "-V", api.vhost),
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, (words, out, err)
    return out.decode()


async def test_every_verb(program: Path, api: Api, tmp_path: Path) -> None:
    async def rows(what: str, *columns: str) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(
            await run(program, api, "-f", "raw_json", "list", what, *columns)
        )
        return found

    assert "queue declared" in await run(
        program, api, "declare", "queue", "name=q", "durable=true", 'arguments={"x-max-length": 5}'
    )
    await run(program, api, "declare", "exchange", "name=x", "type=topic")
    await run(program, api, "declare", "binding", "source=x", "destination=q", "routing_key=a.#")
    assert "Message published" in await run(
        program, api, "publish", "exchange=x", "routing_key=a.b", "payload=hello"
    )
    assert "NOT routed" in await run(program, api, "publish", "exchange=x", "routing_key=b", "payload=lost")
    await run(
        program,
        api,
        *("publish", "exchange=amq.default", "routing_key=q", "payload=two"),
        'properties={"delivery_mode": 2}',
    )
    taken = json.loads(
        await run(program, api, "-f", "raw_json", "get", "queue=q", "count=5", "ackmode=ack_requeue_true")
    )
    assert [each["payload"] for each in taken] == ["hello", "two"]
    assert [each["name"] for each in await rows("queues")] == ["q"]
    assert "x" in [each["name"] for each in await rows("exchanges")]
    assert [
        (each["source"], each["destination"], each["routing_key"]) for each in await rows("bindings")
    ] == [
        ("", "q", "q"),
        ("x", "q", "a.#"),
    ]
    for what in ("vhosts", "users", "permissions", "nodes"):
        assert await rows(what)
    for what in ("connections", "channels", "consumers", "parameters", "policies"):
        await rows(what)
    await run(
        program,
        api,
        *("declare", "policy", "name=p", "pattern=^q", 'definition={"max-length": 3}', "apply-to=queues"),
    )
    assert [each["name"] for each in await rows("policies")] == ["p"]
    assert "3.10.8" in await run(program, api, "show", "overview")
    await run(program, api, "export", str(tmp_path / "definitions.json"))
    document = json.loads((tmp_path / "definitions.json").read_text())
    assert [each["name"] for each in document["queues"]] == ["q"]
    await run(program, api, "purge", "queue", "name=q")
    await run(program, api, "delete", "queue", "name=q")
    await run(program, api, "import", str(tmp_path / "definitions.json"))
    assert [each["name"] for each in await rows("queues")] == ["q"]
    await run(
        program,
        api,
        *("delete", "binding", "source=x", "destination_type=queue", "destination=q"),
        "properties_key=a.%23",
    )
    for kind, name in (("policy", "p"), ("exchange", "x"), ("queue", "q")):
        assert "deleted" in await run(program, api, "delete", kind, f"name={name}")
