"""The rest of the management API: connections, users, policies, definitions, health."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.differential.management.conftest import Api
from tests.support.amqp_probe import ConnectionClosed, Probe
from tests.support.broker import Broker, Connect
from tests.support.rabbitmq import unique


async def listed_connection(api: Api, count: int = 1) -> Any:
    async with asyncio.timeout(60):
        while len(found := await api.get("vhosts/{v}/connections")) != count or any(
            not each.keys() >= {"client_properties", "state"} for each in found
        ):
            await asyncio.sleep(0.1)
    return found[0] if found else None


async def test_connection_is_listed_and_closed_with_its_reason(api: Api, connect: Connect) -> None:
    probe: Probe = await connect(vhost=api.vhost, heartbeat=17)
    channel = await probe.channel(3)
    found = await listed_connection(api)
    assert (found["user"], found["vhost"], found["protocol"]) == ("guest", api.vhost, "AMQP 0-9-1")
    assert (found["state"], found["timeout"], found["frame_max"]) == ("running", 17, 131072)
    assert found["client_properties"]["product"] == "probe"
    path = f"connections/{found['name'].replace(' ', '%20').replace('>', '%3E')}"
    assert (await api.get(path))["peer_port"] == found["peer_port"]
    async with asyncio.timeout(60):
        while not (channels := await api.get(f"{path}/channels")):
            await asyncio.sleep(0.1)
    assert [(each["number"], each["name"]) for each in channels] == [(3, f"{found['name']} (3)")]
    assert await api.delete(path) == 204
    closed = await probe.closed()
    assert isinstance(closed, ConnectionClosed)
    assert closed.code == 320
    assert "Closed via management plugin" in closed.text
    del channel
    assert await api.delete(path) in (204, 404, 500)  # RabbitMQ, while it takes the connection down
    assert await api.delete("connections/nobody") == 404


async def test_consumer_is_listed(api: Api, connect: Connect) -> None:
    await api.put("queues/{v}/q")
    channel = await (await connect(vhost=api.vhost)).channel()
    await channel.consume("q", "tag", no_ack=True, arguments={"x-priority": 3})
    async with asyncio.timeout(60):
        while not (found := await api.get("consumers/{v}")):
            await asyncio.sleep(0.1)
    (consumer,) = found
    assert (consumer["consumer_tag"], consumer["queue"]["name"], consumer["arguments"]) == (
        "tag",
        "q",
        {"x-priority": 3},
    )
    assert (consumer["ack_required"], consumer["exclusive"], consumer["active"]) == (False, False, True)


async def test_overview_and_health(api: Api) -> None:
    overview = await api.get("overview")
    assert (overview["rabbitmq_version"], overview["product_name"]) == ("3.10.8", "RabbitMQ")
    assert {"queues", "exchanges", "connections", "channels", "consumers"} <= overview["object_totals"].keys()
    assert {"amqp", "http"} <= {each["protocol"] for each in overview["listeners"]}
    node = overview["node"]
    (described,) = await api.get("nodes")
    async with asyncio.timeout(60):
        while "uptime" not in described:  # RabbitMQ's node has no statistics for its first seconds
            await asyncio.sleep(0.1)
            (described,) = await api.get("nodes")
    assert (described["name"], described["running"]) == (node, True)
    for key in ("mem_used", "mem_limit", "mem_alarm", "disk_free_alarm", "fd_used", "sockets_used", "uptime"):
        assert key in described
    assert await api.get("whoami") == {"name": "guest", "tags": ["administrator"]}
    for check in ("alarms", "local-alarms", "virtual-hosts", "protocol-listener/amqp091"):
        assert (await api.get(f"health/checks/{check}"))["status"] == "ok"
    assert await api.get("aliveness-test/{v}") == {"status": "ok"}
    failed = await api.request("GET", "health/checks/protocol-listener/pigeon")
    assert (failed.status, failed.document["status"]) == (503, "failed")


async def test_login_that_fails_is_refused(api: Api) -> None:
    refused = await api.request("GET", "overview", password="wrong")
    assert (refused.status, refused.document) == (
        401,
        {"error": "not_authorized", "reason": "Login failed"},
    )


async def test_user_gets_permissions_and_sees_its_own(api: Api, connect: Connect) -> None:
    user = unique("user")
    try:
        assert await api.put(f"users/{user}", {"password": "secret", "tags": "management"}) == 201
        assert await api.put(f"users/{user}", {"password": "pass", "tags": ["management"]}) == 204
        assert (await api.get(f"users/{user}"))["tags"] == ["management"]
        own: dict[str, Any] = {"user": user, "password": "pass"}
        assert await api.get("whoami", **own) == {"name": user, "tags": ["management"]}
        assert await api.get("vhosts?columns=name", **own) == []
        assert (await api.request("GET", "users", **own)).status == 401
        assert (await api.request("GET", "queues/{v}", **own)).status == 401
        allowed = {"configure": "^mine", "write": ".*", "read": ".*"}
        assert await api.put(f"permissions/{{v}}/{user}", allowed) == 201
        expected = {"user": user, "vhost": api.vhost, **allowed}
        assert await api.get(f"permissions/{{v}}/{user}") == expected
        assert await api.get(f"users/{user}/permissions") == [expected]
        assert await api.get("vhosts?columns=name", **own) == [{"name": api.vhost}]
        assert (await api.request("PUT", "queues/{v}/mine", {}, **own)).status == 201
        refused = await api.request("PUT", "queues/{v}/other", {}, **own)
        assert (refused.status, refused.document["error"]) == (401, "not_authorised")
        await (await connect(vhost=api.vhost, user=user, password="pass")).channel()
        assert await api.delete(f"permissions/{{v}}/{user}") == 204
    finally:
        assert await api.delete(f"users/{user}") == 204
    assert await api.delete(f"users/{user}") == 404


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("users/some-user", {"password": "x"}, "tags_not_present"),
        ("permissions/{v}/nobody", {"configure": "", "write": "", "read": ""}, "vhost_or_user_not_found"),
        ("permissions/{v}/guest", {"configure": ""}, "[{key_missing,write},"),
        ("policies/{v}/p", {"definition": {}}, "[{key_missing,pattern}]"),
        ("policies/{v}/p", {"pattern": "a", "definition": {"odd": 1}}, "Validation failed"),
    ],
)
async def test_bad_body_is_refused_with_its_reason(api: Api, path: str, body: object, reason: str) -> None:
    answer = await api.request("PUT", path, body)
    assert (answer.status, answer.document["error"]) == (400, "bad_request")
    assert answer.document["reason"].startswith(reason)


async def test_policy_is_set_shown_and_removed(api: Api) -> None:
    body = {"pattern": "^q", "definition": {"max-length": 1}, "priority": 2, "apply-to": "queues"}
    assert await api.put("policies/{v}/short", body) == 201
    assert await api.put("policies/{v}/short", body) == 204
    assert await api.get("policies/{v}/short") == {"vhost": api.vhost, "name": "short", **body}
    await api.put("queues/{v}/q1")
    for text in ("1", "2"):
        await api.publish("q1", text)
    assert [each["payload"] for each in await api.take("q1")] == ["2"]
    assert await api.delete("policies/{v}/short") == 204
    assert await api.delete("policies/{v}/short") == 404


async def test_definitions_of_a_virtual_host_are_taken_elsewhere(api: Api) -> None:
    await api.put("queues/{v}/q", {"arguments": {"x-max-length": 3}})
    await api.put("exchanges/{v}/x", {"type": "topic"})
    await api.post("bindings/{v}/e/x/q/q", {"routing_key": "a.*", "arguments": {"n": 1}})
    await api.put("policies/{v}/p", {"pattern": "^q", "definition": {"message-ttl": 5}})
    found = await api.get("definitions/{v}")
    assert [each["name"] for each in found["queues"]] == ["q"]
    other = unique("vhost")
    assert await api.put(f"vhosts/{other}") == 201
    try:
        assert (await api.request("POST", f"definitions/{other}", found)).status in (200, 201, 204)
        again = await api.get(f"definitions/{other}")
        for section in ("queues", "exchanges", "bindings", "policies"):
            assert [each | {"vhost": ""} for each in again[section]] == [
                each | {"vhost": ""} for each in found[section]
            ]
    finally:
        assert await api.delete(f"vhosts/{other}") == 204


async def test_definitions_of_all_have_users_and_permissions(api: Api, broker: Broker) -> None:
    found = await api.get("definitions")
    assert "guest" in {each["name"] for each in found["users"]}
    assert api.vhost in {each["name"] for each in found["vhosts"]}
    assert {"user": "guest", "vhost": api.vhost, "configure": ".*", "write": ".*", "read": ".*"} in found[
        "permissions"
    ]
