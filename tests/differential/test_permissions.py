"""Users, permissions and virtual hosts: the same definitions, operations and answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pamqp import base, commands

from msctl.export import ExportOptions, export
from msctl.model.broker_spec import BrokerSpec
from msctl.model.project import Project
from tests.support.amqp_probe import Channel, ChannelClosed, ConnectionClosed
from tests.support.broker import Broker, Connect
from tests.support.rabbitmq import unique

HASHES = {
    "rabbit_password_hashing_sha256": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR",
    "rabbit_password_hashing_sha512": (
        "AQIDBEasi57qQmKrKS3hT/tToZQTSGe0aIxheFJPzONWfcZLALq7JlkjIrc4zKmzoCl2i5ligSzH2lxUTbywDEUALuc="
    ),
    "rabbit_password_hashing_md5": "AQIDBDeBuuH8ubD+6IsvjTP2It8=",
}
"""Salted hashes of "test12": the salt, then the digest of salt and password, in base64."""


@pytest.fixture
async def vhost(broker: Broker) -> AsyncIterator[str]:
    """A virtual host of its own with a user `alice…` that may do nothing, and guest that may do all."""
    name = unique("v")
    user = f"alice-{name}"
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    nothing = {"configure": "", "write": "", "read": ""}
    assert not await broker.operator.load(
        {
            "users": [{"name": user, "password": "s3cret", "tags": []}],
            "vhosts": [{"name": name}],
            "permissions": [
                {"user": "guest", "vhost": name, **everything},
                {"user": user, "vhost": name, **nothing},
            ],
        }
    )
    yield name
    await broker.operator.delete("vhosts", name)
    await broker.operator.delete("users", user)


class Alice:
    """The user of the virtual host; `permit` replaces her permissions."""

    def __init__(self, broker: Broker, vhost: str) -> None:
        self.name = f"alice-{vhost}"
        self._broker = broker
        self._vhost = vhost

    async def permit(self, configure: str = "", write: str = "", read: str = "") -> None:
        allowed = {"configure": configure, "write": write, "read": read}
        entry = {"user": self.name, "vhost": self._vhost, **allowed}
        assert not await self._broker.operator.load({"permissions": [entry]})

    async def permit_topic(self, exchange: str, write: str, read: str) -> None:
        entry = {"user": self.name, "vhost": self._vhost, "exchange": exchange, "write": write, "read": read}
        assert not await self._broker.operator.load({"topic_permissions": [entry]})


@pytest.fixture
async def alice(broker: Broker, vhost: str) -> Alice:
    return Alice(broker, vhost)


@pytest.fixture
async def hers(connect: Connect, alice: Alice, vhost: str) -> Any:
    return await connect(user=alice.name, password="s3cret", vhost=vhost)


async def refusal(probe: Any, method: base.Frame) -> ChannelClosed:
    channel: Channel = await probe.channel()
    channel.send(method)
    closed = await probe.closed(channel.number)
    assert isinstance(closed, ChannelClosed)
    return closed


async def test_unknown_virtual_host_is_not_found(connect: Connect) -> None:
    with pytest.raises(ConnectionClosed) as failed:
        await connect(vhost="no-such-vhost")
    assert (failed.value.code, failed.value.text) == (530, "NOT_ALLOWED - vhost no-such-vhost not found")


async def test_virtual_host_without_permissions_is_refused(connect: Connect, alice: Alice) -> None:
    with pytest.raises(ConnectionClosed) as failed:
        await connect(user=alice.name, password="s3cret", vhost="/")
    assert failed.value.code == 530
    assert failed.value.text == f"NOT_ALLOWED - access to vhost '/' refused for user '{alice.name}'"


async def test_wrong_password_is_refused(connect: Connect, alice: Alice, vhost: str) -> None:
    for user, password in ((alice.name, "wrong"), (alice.name, ""), ("nobody", "x")):
        with pytest.raises(ConnectionClosed) as failed:
            await connect(user=user, password=password, vhost=vhost)
        assert (failed.value.code, failed.value.class_id, failed.value.method_id) == (403, 0, 0)


@pytest.mark.parametrize("algorithm", HASHES)
async def test_password_hashes_are_verified(
    broker: Broker, connect: Connect, vhost: str, algorithm: str
) -> None:
    name = unique("u")
    user = {"name": name, "password_hash": HASHES[algorithm], "hashing_algorithm": algorithm, "tags": ""}
    everything = {"configure": "", "write": "", "read": ""}
    assert not await broker.operator.load(
        {"users": [user], "permissions": [{"user": name, "vhost": vhost, **everything}]}
    )
    try:
        await connect(user=name, password="test12", vhost=vhost)
        with pytest.raises(ConnectionClosed):
            await connect(user=name, password="test13", vhost=vhost)
    finally:
        await broker.operator.delete("users", name)


DEAD_LETTERS = commands.Queue.Declare(queue="q", arguments={"x-dead-letter-exchange": "d"})
ALTERNATE = commands.Exchange.Declare(exchange="x", arguments={"alternate-exchange": "a"})
REFUSED: list[tuple[base.Frame, str]] = [
    (commands.Queue.Declare(queue="q"), "queue 'q'"),
    (commands.Queue.Declare(queue="amq.q"), "amq."),
    (commands.Queue.Delete(queue="q"), "queue 'q'"),
    (commands.Queue.Delete(queue="absent"), "queue 'absent'"),
    (commands.Queue.Purge(queue="absent"), "queue 'absent'"),
    (commands.Queue.Bind(queue="q", exchange="x"), "queue 'q'"),
    (commands.Queue.Unbind(queue="q", exchange="x"), "queue 'q'"),
    (commands.Queue.Bind(queue="q", exchange=""), "queue 'q'"),
    (commands.Basic.Get(queue="absent"), "queue 'absent'"),
    (commands.Basic.Consume(queue="absent"), "queue 'absent'"),
    (commands.Exchange.Declare(exchange="x"), "exchange 'x'"),
    (commands.Exchange.Declare(exchange=""), "default exchange"),
    (commands.Exchange.Delete(exchange="x"), "exchange 'x'"),
    (commands.Exchange.Delete(exchange="amq.topic"), "amq.topic"),
    (commands.Exchange.Bind(destination="x", source="y"), "exchange 'x'"),
    (commands.Exchange.Bind(destination="", source="y"), "amq.default"),
    (commands.Exchange.Unbind(destination="x", source="y"), "exchange 'x'"),
]


@pytest.mark.parametrize(("method", "part"), REFUSED)
async def test_operation_without_permission_is_refused(
    hers: Any, alice: Alice, vhost: str, method: base.Frame, part: str
) -> None:
    closed = await refusal(hers, method)
    assert closed.code == 403
    assert part in closed.text
    if part.startswith(("queue", "exchange")):
        assert closed.text == (
            f"ACCESS_REFUSED - access to {part} in vhost '{vhost}' refused for user '{alice.name}'"
        )


@pytest.mark.parametrize(
    "method",
    [
        commands.Queue.Declare(queue="absent", passive=True),
        commands.Exchange.Declare(exchange="absent", passive=True),
    ],
)
async def test_passive_declaration_needs_no_permission(hers: Any, method: base.Frame) -> None:
    assert (await refusal(hers, method)).code == 404


@pytest.mark.parametrize(
    ("rights", "method", "part"),
    [
        (
            ("^q", "", ""),
            DEAD_LETTERS,
            "queue 'q'",
        ),
        (
            ("^q", "", "^q"),
            DEAD_LETTERS,
            "exchange 'd'",
        ),
        (
            ("^q", "", "^q"),
            commands.Queue.Declare(queue="q", arguments={"x-dead-letter-exchange": ""}),
            "exchange 'amq.default'",
        ),
        (
            ("^x", "", ""),
            ALTERNATE,
            "exchange 'x'",
        ),
        (
            ("^x", "", "^x"),
            ALTERNATE,
            "exchange 'a'",
        ),
        (("", "^q", ""), commands.Queue.Bind(queue="q", exchange="amq.direct"), "exchange 'amq.direct'"),
        (("", "^q", ""), commands.Queue.Bind(queue="q", exchange="absent"), "exchange 'absent'"),
        (("", "^y", ""), commands.Exchange.Bind(destination="y", source="x"), "exchange 'x'"),
    ],
)
async def test_second_resource_of_an_operation_is_checked_too(
    hers: Any, alice: Alice, rights: tuple[str, str, str], method: base.Frame, part: str
) -> None:
    await alice.permit(*rights)
    closed = await refusal(hers, method)
    assert closed.code == 403
    assert f"access to {part} in vhost" in closed.text


@pytest.mark.parametrize("exchange", ["", "amq.direct", "absent"])
async def test_publish_without_permission_is_refused(hers: Any, exchange: str) -> None:
    channel: Channel = await hers.channel()
    channel.publish(b"x", exchange=exchange, key="q")
    closed = await hers.closed(channel.number)
    assert closed.code == 403
    assert f"exchange '{exchange or 'amq.default'}' in vhost" in closed.text


async def test_topic_permissions_restrict_keys(hers: Any, alice: Alice) -> None:
    await alice.permit(".*", ".*", ".*")
    await alice.permit_topic("amq.topic", "^{username}\\.", "^(public|{vhost})\\b")
    channel: Channel = await hers.channel()
    await channel.rpc(commands.Queue.Declare(queue="q", exclusive=True), commands.Queue.DeclareOk)
    bind = commands.Queue.Bind(queue="q", exchange="amq.topic", routing_key="#")
    closed = await refusal(hers, bind)
    assert closed.code == 403
    assert closed.text.startswith("ACCESS_REFUSED - access to topic '#' in exchange 'amq.topic' in vhost")
    await channel.rpc(
        commands.Queue.Bind(queue="q", exchange="amq.topic", routing_key="public.#"), commands.Queue.BindOk
    )
    channel.publish(b"x", exchange="amq.topic", key=f"{alice.name}.1")
    channel.publish(b"x", exchange="amq.topic", key="somebody")
    closed = await hers.closed(channel.number)
    assert closed.code == 403
    assert "access to topic 'somebody'" in closed.text


async def test_server_named_queue_needs_permission_for_its_name(hers: Any, alice: Alice) -> None:
    assert (await refusal(hers, commands.Queue.Declare(queue="", exclusive=True))).code == 403
    await alice.permit("^amq\\.gen")
    channel: Channel = await hers.channel()
    await channel.rpc(commands.Queue.Declare(queue="", exclusive=True), commands.Queue.DeclareOk)


NAMES = ("a", "secret", "aaaaaaaaaaaaaaaaaaaaaaaaaab", "A", "reopened")


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        ("^(?!secret).*$", {*NAMES} - {"secret"}),
        ("^(a+)+$", {"a"}),
        ("open|never", {"reopened"}),
        ("(?i)^A$", {"a", "A"}),
        ("^[[:alpha:]]$", {"a", "A"}),
        ("^a?$", {"a"}),
        ("", set()),
    ],
)
async def test_patterns_mean_the_same(hers: Any, alice: Alice, pattern: str, allowed: set[str]) -> None:
    await alice.permit("", "", pattern)
    answers = {name: (await refusal(hers, commands.Basic.Get(queue=name))).code for name in NAMES}
    assert answers == {name: 404 if name in allowed else 403 for name in NAMES}


async def test_amqplain_login_and_update_secret(connect: Connect, alice: Alice, vhost: str) -> None:
    from pamqp.encode import field_table

    table = field_table({"LOGIN": alice.name, "PASSWORD": "s3cret"})[4:].decode("latin-1")
    probe = await connect(mechanism="AMQPLAIN", response=table, vhost=vhost)
    probe.send(commands.Connection.UpdateSecret("anything", "because"))
    await probe.expect(commands.Connection.UpdateSecretOk)


async def test_deleted_virtual_host_closes_its_connections(broker: Broker, connect: Connect) -> None:
    name = unique("gone")
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    await broker.operator.load(
        {"vhosts": [{"name": name}], "permissions": [{"user": "guest", "vhost": name, **everything}]}
    )
    probe = await connect(vhost=name)
    await broker.operator.delete("vhosts", name)
    closed = await probe.closed()
    assert (closed.code, closed.class_id, closed.method_id) == (320, 0, 0)
    # RabbitMQ says "is down" if it stops the virtual host before it closes the connection.
    assert closed.text.replace("is down", "is deleted") == f"CONNECTION_FORCED - vhost '{name}' is deleted"


async def test_user_id_of_another_needs_the_tag_impersonator(broker: Broker, hers: Any, alice: Alice) -> None:
    await alice.permit(".*", ".*", ".*")
    channel: Channel = await hers.channel()
    channel.publish(b"x", key="q", user_id="somebody")
    closed = await hers.closed(channel.number)
    assert closed.code == 406
    assert f"user_id property set to 'somebody' but authenticated user was '{alice.name}'" in closed.text


async def test_definitions_keep_what_was_loaded(broker: Broker, vhost: str) -> None:
    document: dict[str, Any] = {
        "queues": [
            {
                "vhost": vhost,
                "name": "q",
                "durable": True,
                "auto_delete": False,
                "arguments": {"x-max-length": 5},
            }
        ],
        "exchanges": [
            {
                "vhost": vhost,
                "name": "x",
                "type": "topic",
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": {},
            }
        ],
        "bindings": [
            {
                "source": "x",
                "vhost": vhost,
                "destination": "q",
                "destination_type": "queue",
                "routing_key": "a.#",
                "arguments": {},
            }
        ],
        "policies": [
            {
                "vhost": vhost,
                "name": "p",
                "pattern": "^q$",
                "apply-to": "queues",
                "definition": {"message-ttl": 1000},
                "priority": 7,
            }
        ],
        "parameters": [
            {
                "vhost": vhost,
                "component": "operator_policy",
                "name": "o",
                "value": {
                    "pattern": ".*",
                    "apply-to": "queues",
                    "definition": {"max-length": 9},
                    "priority": 0,
                },
            }
        ],
    }
    assert not await broker.operator.load(document)
    written = await broker.operator.export()
    found = {
        section: [entry for entry in written[section] if entry.get("vhost") == vhost] for section in document
    }
    document["queues"][0]["type"] = "classic"
    found["queues"][0].setdefault("type", "classic")
    assert found == document
    user = next(each for each in written["users"] if each["name"] == f"alice-{vhost}")
    assert sorted(user) == ["hashing_algorithm", "limits", "name", "password_hash", "tags"]


@pytest.mark.parametrize(
    "document",
    [
        {"users": [{"name": "x"}]},
        {"users": [{"name": "x", "tags": "", "password_hash": "not base64!"}]},
        {"permissions": [{"user": "nobody-at-all", "vhost": "/", "configure": "", "write": "", "read": ""}]},
        {"permissions": [{"user": "guest", "vhost": "/", "configure": "(", "write": "", "read": ""}]},
        {"policies": [{"vhost": "/", "name": "p", "pattern": "(", "definition": {"max-length": 1}}]},
        {"policies": [{"vhost": "/", "name": "p", "pattern": ".*", "definition": {"max-lenght": 1}}]},
        {"policies": [{"vhost": "/", "name": "p", "pattern": ".*", "definition": {}}]},
    ],
)
async def test_bad_definitions_are_refused(broker: Broker, document: dict[str, Any]) -> None:
    assert await broker.operator.load(document)


async def test_exported_project_is_imported(broker: Broker) -> None:
    name = unique("v")
    document = {
        "users": [{"name": name, "password": "s3cret", "tags": ["monitoring"]}],
        "vhosts": [{"name": name}],
        "permissions": [{"user": name, "vhost": name, "configure": "", "write": ".*", "read": "^q"}],
        "queues": [{"vhost": name, "name": "q", "durable": True, "arguments": {"x-queue-type": "quorum"}}],
        "policies": [{"vhost": name, "name": "p", "pattern": "^q", "definition": {"max-length": 5}}],
    }
    project = Project("shop", None, "msctl.toml", (), None, BrokerSpec(url=f"amqp://app:x@localhost/{name}"))
    exported = export("rabbitmq", project, ExportOptions(definitions=document)).files[0]
    try:
        assert not await broker.operator.load(json.loads(exported.text))
        written = await broker.operator.export()
        assert [each["name"] for each in written["queues"] if each["vhost"] == name] == ["q"]
        assert {name, "app"} <= {each["name"] for each in written["users"]}
    finally:
        await broker.operator.delete("vhosts", name)
        for user in (name, "app"):
            await broker.operator.delete("users", user)
