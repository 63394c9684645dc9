"""Definitions of the embedded broker: read from a file, who can log in with them, and read again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from msctl.amqp.connection import Connection
from msctl.broker.core.users import Algorithm, PasswordHash
from msctl.clock import SystemClock
from msctl.errors import ConfigError
from msctl.model.broker_spec import BrokerSpec
from msctl.model.broker_url import BrokerUrl, parse_url
from msctl.model.project import Project
from msctl.model.snapshots import Durability
from msctl.model.tls_spec import BrokerTlsSpec
from msctl.runtime.embedded_host import STACK_USER, EmbeddedHost
from msctl.secret import Secret
from tests.support.amqp_probe import ConnectionClosed, Probe
from tests.support.certificates import Certificates

APP = {
    "name": "app",
    "password_hash": PasswordHash.make(Secret("s3cret")).encoded,
    "hashing_algorithm": Algorithm.SHA256.value,
    "tags": [],
}
NO_TLS = BrokerTlsSpec()
ALL = {"configure": ".*", "write": ".*", "read": ".*"}


class Rig:
    def __init__(self, folder: Path, url: str, *, given: bool = False, tls: BrokerTlsSpec = NO_TLS) -> None:
        self.lines: list[str] = []
        self._file = folder / "definitions.json"
        self.write()
        self._spec = BrokerSpec(
            url=url,
            url_given=given,
            durable=Durability.NONE,
            management=False,
            definitions=self._file,
            tls=tls,
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
            env={},
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
    file = tmp_path / "definitions.json"
    file.unlink() if content is None else file.write_text(content)
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


LOCAL = "amqp://guest:guest@localhost:0/"


async def served(port: int, made: Certificates) -> bytes:
    """The certificate that the server presents to a client that trusts the authority."""
    reader, writer = await asyncio.open_connection("localhost", port, ssl=made.trusting())
    writer.write(b"AMQP\0\0\x09\x01")
    assert await reader.readexactly(3) == b"\x01\0\0"
    certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return certificate


async def test_amqps_is_served_beside_the_plain_port(tmp_path: Path) -> None:
    made = Certificates.of(tmp_path)
    cert, key = made.make("broker")
    rig = Rig(tmp_path, LOCAL, tls=BrokerTlsSpec(cert, key))
    _, url, server = await rig.start()
    try:
        assert await logs_in(url)
        await served(server.tls_port, made)
        text = f"amqps://guest:guest@localhost:{server.tls_port}/?cafile={tmp_path / 'ca.pem'}"
        connection = await Connection.open(parse_url(text), name="test")
        await connection.close()
    finally:
        await server.stop()


async def test_with_only_the_stack_itself_connects_by_amqps(tmp_path: Path) -> None:
    made = Certificates.of(tmp_path)
    cert, key = made.make("broker")
    rig = Rig(tmp_path, LOCAL, tls=BrokerTlsSpec(cert, key, only=True, ca=tmp_path / "ca.pem"))
    _, url, server = await rig.start()
    try:
        assert (url.tls, server.address[1]) == (True, server.tls_port)
        connection = await Connection.open(url, name="test")
        await connection.close()
        with pytest.raises(EOFError):
            await Probe.connect(f"amqp://guest:guest@localhost:{server.tls_port}/")
    finally:
        await server.stop()


async def test_renewed_certificate_is_served_without_a_restart(tmp_path: Path) -> None:
    made = Certificates.of(tmp_path)
    cert, key = made.make("broker")
    rig = Rig(tmp_path, LOCAL, tls=BrokerTlsSpec(cert, key))
    host, _, server = await rig.start()
    try:
        before = await served(server.tls_port, made)
        for path, new in zip((cert, key), made.make("renewed"), strict=True):
            path.write_bytes(new.read_bytes())
        await host.use(await host.read(rig.project))
        assert await served(server.tls_port, made) != before
    finally:
        await server.stop()


async def test_silent_handshakes_do_not_keep_others_out(tmp_path: Path) -> None:
    made = Certificates.of(tmp_path)
    cert, key = made.make("broker")
    _, _, server = await Rig(tmp_path, LOCAL, tls=BrokerTlsSpec(cert, key)).start()
    silent = [await asyncio.open_connection("localhost", server.tls_port) for _ in range(20)]
    silent[0][1].write(b"AMQP\0\0\x09\x01")
    try:
        await served(server.tls_port, made)
    finally:
        for _, writer in silent:
            writer.close()
        await server.stop()


def test_certificate_of_the_broker_is_named_by_its_keys(tmp_path: Path) -> None:
    rig = Rig(tmp_path, LOCAL, tls=BrokerTlsSpec(tmp_path / "none.pem", tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match=r"broker\.tls\.cert: .*none\.pem does not exist"):
        rig.host()
