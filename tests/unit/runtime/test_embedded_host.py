"""Definitions of the embedded broker: read from a file, who can log in with them, and read again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from msctl.broker.core.users import Algorithm, PasswordHash
from msctl.clock import SystemClock
from msctl.errors import ConfigError
from msctl.model.broker_url import BrokerUrl, parse_url
from msctl.model.project import BrokerSpec, Project
from msctl.model.snapshots import Durability
from msctl.runtime.embedded_host import STACK_USER, EmbeddedHost
from msctl.secret import Secret
from tests.support.amqp_probe import ConnectionClosed, Probe

APP = {
    "name": "app",
    "password_hash": PasswordHash.make(Secret("s3cret")).encoded,
    "hashing_algorithm": Algorithm.SHA256.value,
    "tags": [],
}
ALL = {"configure": ".*", "write": ".*", "read": ".*"}


class Rig:
    def __init__(self, folder: Path, url: str, *, given: bool) -> None:
        self.lines: list[str] = []
        self._file = folder / "definitions.json"
        self._spec = BrokerSpec(
            url=url, url_given=given, durable=Durability.NONE, management=False, definitions=self._file
        )

    def write(self, **document: Any) -> None:
        self._file.write_text(json.dumps(document))

    @property
    def project(self) -> Project:
        root = self._file.parent
        return Project("shop", root, "msctl.toml", services=(), gateway=None, broker=self._spec)

    def host(self) -> EmbeddedHost:
        def no_storage(_spec: BrokerSpec) -> Any:
            raise AssertionError

        return EmbeddedHost(
            self.project,
            clock=SystemClock(asyncio.sleep),
            log=lambda _level, text: self.lines.append(text),
            storage=no_storage,
            page=lambda: None,
        )

    async def start(self) -> tuple[EmbeddedHost, BrokerUrl, Any]:
        host = self.host()
        server, url = host.make(parse_url(self._spec.url, any_port=True))
        _, port = await server.start("127.0.0.1", 0)
        return host, url.changed(port=port), server


async def logs_in(url: BrokerUrl, **options: Any) -> bool:
    try:
        await (await Probe.connect(url.text, vhost=url.vhost, **options)).close()
    except ConnectionClosed:
        return False
    return True


@pytest.mark.parametrize(
    ("url", "given", "users", "user", "guest"),
    [
        ("amqp://guest:guest@127.0.0.1:0/", False, [], "guest", True),
        ("amqp://guest:guest@127.0.0.1:0/", False, [APP], STACK_USER, False),
        ("amqp://app:s3cret@127.0.0.1:0/", True, [APP], "app", False),
        ("amqp://me:mine@127.0.0.1:0/", True, [APP], "me", False),
    ],
)
async def test_stack_logs_in_beside_the_users_of_the_definitions(
    tmp_path: Path, url: str, given: bool, users: list[Any], user: str, guest: bool
) -> None:
    rig = Rig(tmp_path, url, given=given)
    permissions = [{"user": each["name"], "vhost": "/", **ALL} for each in users]
    rig.write(users=users, permissions=permissions)
    _, used, server = await rig.start()
    try:
        assert used.user == user
        assert await logs_in(used)
        assert await logs_in(used, user="guest", password="guest") is guest
        assert await logs_in(used, user="app", password="s3cret") is bool(users)
    finally:
        await server.stop()


async def test_configured_user_with_another_password_is_an_error(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "amqp://app:wrong@127.0.0.1:0/", given=True)
    rig.write(users=[APP])
    with pytest.raises(ConfigError) as failed:
        await rig.start()
    assert "'app'" in failed.value.message
    assert "wrong" not in failed.value.message


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (None, "does not exist"),
        ("{", "definitions.json: no JSON"),
        ("[" * 100_000, "definitions.json: no JSON"),
        ("[]", "must be a JSON object"),
        ('{"users": [{"name": "u", "tags": []}, {"tags": []}, {}]}', "users[1].name: is missing (and 1 more"),
    ],
)
def test_unusable_file_is_named(tmp_path: Path, content: str | None, fragment: str) -> None:
    rig = Rig(tmp_path, "amqp://guest:guest@127.0.0.1:0/", given=False)
    if content is not None:
        (tmp_path / "definitions.json").write_text(content)
    with pytest.raises(ConfigError) as failed:
        rig.host()
    assert fragment in failed.value.message


async def test_edited_definitions_replace_users_and_policies_and_keep_queues(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "amqp://guest:guest@127.0.0.1:0/", given=False)
    policy = {"vhost": "/", "name": "p", "pattern": "^q", "definition": {"max-length": 1}}
    rig.write(
        users=[APP],
        permissions=[{"user": "app", "vhost": "/", **ALL}],
        policies=[policy],
        queues=[{"vhost": "/", "name": "q"}],
    )
    host, url, server = await rig.start()
    try:
        assert not await host.use(await host.read(rig.project))
        other = {"name": "other", "password": "s3cret", "tags": []}
        rig.write(users=[other], permissions=[{"user": "other", "vhost": "/", **ALL}])
        assert await host.use(await host.read(rig.project))
        assert not await host.use(await host.read(rig.project))
        assert await logs_in(url)
        assert await logs_in(url, user="other", password="s3cret")
        assert not await logs_in(url, user="app", password="s3cret")
        assert [queue.name for queue in await server.queues()] == ["q"]
        assert any("removed policy 'p'" in line for line in rig.lines)
    finally:
        await server.stop()


async def test_warnings_name_the_file_and_the_path(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "amqp://guest:guest@127.0.0.1:0/", given=False)
    rig.write(
        colour="red",
        queues=[{"vhost": "/", "name": "q"}],
        bindings=[{"vhost": "/", "source": "none", "destination": "q", "destination_type": "queue"}],
        policies=[{"vhost": "/", "name": "p", "pattern": "^none", "definition": {"max-length": 1}}],
    )
    _, _, server = await rig.start()
    await server.stop()
    assert [line.rpartition(": ")[0] for line in rig.lines] == [
        "definitions.json: colour",
        "definitions.json: bindings[0].source",
        "definitions.json: policies[0]",
    ]
