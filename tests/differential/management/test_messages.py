"""Messages over HTTP: publish, take, purge, and what listings count."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.differential.management.conftest import Api
from tests.support.amqp_probe import Probe
from tests.support.broker import Connect

STATISTICS_S = 60.0
"""How long figures may take; RabbitMQ's come every half a second, on a busy machine later."""


@pytest.fixture
async def queue(api: Api) -> str:
    await api.put("queues/{v}/q")
    return "q"


async def eventually(api: Api, path: str, holds: Callable[[Any], bool]) -> Any:
    async with asyncio.timeout(STATISTICS_S):
        while not holds(document := await api.get(path)):
            await asyncio.sleep(0.1)
    return document


async def test_message_is_published_and_taken_with_its_properties(api: Api, queue: str) -> None:
    properties = {
        "delivery_mode": 2,
        "headers": {"n": 1, "f": 1.5, "t": {"x": True}, "l": [1, "a"]},
        "content_type": "text/plain",
        "priority": 3,
        "timestamp": 5,
        "message_id": "m-1",
        "expiration": "600000",
    }
    assert await api.publish(queue, "hello", properties=properties)
    (message,) = await api.take(queue)
    assert message["properties"] == properties
    del message["properties"]
    assert message == {
        "payload_bytes": 5,
        "redelivered": False,
        "exchange": "",
        "routing_key": "q",
        "message_count": 0,
        "payload": "hello",
        "payload_encoding": "string",
    }
    assert await api.take(queue) == []


async def test_unrouted_message_says_so(api: Api) -> None:
    assert not await api.publish("nobody", "x")


async def test_bytes_go_as_base64_and_text_may_be_cut(api: Api, queue: str) -> None:
    await api.publish(queue, "//8=", payload_encoding="base64")
    await api.publish(queue, "abcdef")
    body = {"count": 2, "ackmode": "ack_requeue_false", "encoding": "auto", "truncate": 3}
    bytes_, text = await api.post("queues/{v}/q/get", body)
    assert (bytes_["payload"], bytes_["payload_encoding"], bytes_["properties"]) == ("//8=", "base64", [])
    assert (text["payload"], text["payload_bytes"]) == ("abc", 6)


async def test_ack_mode_decides_where_messages_go(api: Api, queue: str) -> None:
    await api.put("queues/{v}/dead")
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    await api.put("queues/{v}/letters", {"arguments": arguments})
    for body in ("1", "2", "3"):
        await api.publish("letters", body)
    first = await api.take("letters", 2, "ack_requeue_true")
    assert [(each["payload"], each["message_count"]) for each in first] == [("1", 2), ("2", 1)]
    (again,) = await api.take("letters", 1, "reject_requeue_true")
    assert (again["payload"], again["redelivered"]) == ("1", True)
    await api.take("letters", 1, "reject_requeue_false")
    (letter,) = await api.take("dead")
    assert letter["payload"] == "1"
    assert letter["properties"]["headers"]["x-death"][0]["reason"] == "rejected"
    assert [each["payload"] for each in await api.take("letters")] == ["2", "3"]


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("queues/{v}/q/get", {"count": 1, "encoding": "auto"}, 400, "[{key_missing,ackmode}]"),
        (
            "queues/{v}/none/get",
            {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"},
            404,
            "NOT_FOUND - no queue 'none'",
        ),
        ("exchanges/{v}/amq.default/publish", {"routing_key": "q"}, 400, "[{key_missing,properties}"),
        (
            "exchanges/{v}/none/publish",
            {"properties": {}, "routing_key": "q", "payload": "", "payload_encoding": "string"},
            400,
            "404 NOT_FOUND - no exchange 'none'",
        ),
        (
            "exchanges/{v}/amq.default/publish",
            {
                "properties": {"headers": {"n": None}},
                "routing_key": "q",
                "payload": "",
                "payload_encoding": "string",
            },
            400,
            "null",
        ),
    ],
)
async def test_request_that_cannot_be_is_refused(
    api: Api, queue: str, path: str, body: object, status: int, reason: str
) -> None:
    answer = await api.request("POST", path, body)
    assert (answer.status, answer.document["reason"].startswith(reason)) == (status, True), answer


async def test_purge_empties_a_queue(api: Api, queue: str) -> None:
    await api.publish(queue, "x")
    assert await api.delete("queues/{v}/q/contents") == 204
    assert await api.take(queue) == []
    assert await api.delete("queues/{v}/none/contents") == 404


async def test_exclusive_queue_of_a_connection_is_not_for_others(api: Api, connect: Connect) -> None:
    probe: Probe = await connect(vhost=api.vhost)
    name = await (await probe.channel()).queue("mine")
    body = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
    answer = await api.request("POST", f"queues/{{v}}/{name}/get", body)
    assert (answer.status, answer.document["error"]) == (400, "bad_request")
    assert "RESOURCE_LOCKED" in answer.document["reason"] or "exclusive access" in answer.document["reason"]


# --- what is counted ---


async def test_figures_that_scalers_and_monitors_read(api: Api, queue: str, connect: Connect) -> None:
    """KEDA's scaler, Flower and dashboards read these fields of a queue."""
    probe: Probe = await connect(vhost=api.vhost)
    channel = await probe.channel()
    for number in range(6):
        channel.publish(b"%d" % number, queue)
    await channel.qos(2)
    await channel.consume(queue, "reader")
    message = await channel.message()
    channel.ack(message.tag)
    for _ in range(2):
        await channel.message()
    figures = {"messages": 5, "messages_ready": 3, "messages_unacknowledged": 2, "consumers": 1}
    counts = {"publish": 6, "deliver": 3, "deliver_get": 3, "ack": 1}

    def all_reported(each: Any) -> bool:
        """RabbitMQ's queues, channels and connections report each figure in their own time."""
        stats = each.get("message_stats", {})
        return (
            figures.items() <= {name: each.get(name) for name in figures}.items()
            and counts.items() <= {name: stats[name] for name in counts if name in stats}.items()
            and len(each.get("consumer_details", ())) == 1
        )

    found = await eventually(api, "queues/{v}/q", all_reported)
    stats = found["message_stats"]
    for name in ("publish", "deliver_get", "ack"):
        assert isinstance(stats[f"{name}_details"]["rate"], float | int)
    (consumer,) = found["consumer_details"]
    assert (consumer["consumer_tag"], consumer["prefetch_count"], consumer["ack_required"]) == (
        "reader",
        2,
        True,
    )


async def test_rate_of_publishes_is_seen(api: Api, queue: str, connect: Connect) -> None:
    """What KEDA scales by in mode MessageRate: message_stats.publish_details.rate."""
    probe: Probe = await connect(vhost=api.vhost)
    channel = await probe.channel()
    publishing = True

    async def publish() -> None:
        while publishing:
            channel.publish(b"x", queue)
            await asyncio.sleep(0.01)

    task = asyncio.create_task(publish())
    try:
        found = await eventually(
            api,
            "queues/{v}/q?columns=message_stats.publish_details.rate",
            lambda each: bool(each) and each["message_stats"]["publish_details"]["rate"] > 2,
        )
    finally:
        publishing = False
        await task
    # A hundred a second at most are published; RabbitMQ may see those of a few seconds in one.
    assert found["message_stats"]["publish_details"]["rate"] < 1000
