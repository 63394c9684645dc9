"""Opening, tuning and closing a connection: AMQP 0-9-1, 1.4 and 2.2.4, as RabbitMQ does it."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest
from pamqp import commands

from tests.support.amqp_probe import METHOD, Channel, ConnectionClosed, Message, Probe, Unknown, declare
from tests.support.broker import Broker, Connect
from tests.support.rabbitmq import unique

RUNNING = "CHANNEL_ERROR - unexpected method in connection state running"


@pytest.mark.parametrize(
    "greeting", [b"AMQP\x00\x01\x00\x00", b"AMQP\x00\x00\x09\x02", b"AMQP\x03\x01\x00\x00", b"GET / HT"]
)
async def test_unknown_protocol_header_is_answered_with_ours_and_a_close(
    broker: Broker, greeting: bytes
) -> None:
    probe = await Probe.dial(broker.url)
    probe.write(greeting)
    await probe.eof()
    assert probe.leftover == b"AMQP\x00\x00\x09\x01"
    await probe.drop()


async def test_start_offers_what_clients_look_for(connection: Probe, broker: Broker) -> None:
    start = connection.server.start
    assert (start.version_major, start.version_minor) == (0, 9)
    assert set(start.mechanisms.split()) == {"PLAIN", "AMQPLAIN"}  # RabbitMQ's order is any
    assert start.locales == "en_US"
    properties = start.server_properties
    assert properties["capabilities"] == {
        "publisher_confirms": True,
        "exchange_exchange_bindings": True,
        "basic.nack": True,
        "consumer_cancel_notify": True,
        "connection.blocked": True,
        "consumer_priorities": True,
        "authentication_failure_close": True,
        "per_consumer_qos": True,
        "direct_reply_to": True,
    }
    assert (properties["product"], properties["version"]) == ("RabbitMQ", "3.10.8")
    assert str(properties["platform"]).startswith("msctl/") is (broker.name == "embedded")
    for name in ("version", "platform", "information", "copyright", "cluster_name"):
        assert isinstance(properties[name], str) and properties[name], name


async def test_tune_proposes_rabbitmq_limits(connection: Probe) -> None:
    tune = connection.server.tune
    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (2047, 131072, 60)


async def test_smallest_frame_that_the_specification_allows_is_accepted(connect: Connect) -> None:
    probe = await connect(frame_max=4096)
    channel = await probe.channel()
    queue = await channel.queue()
    body = bytes(range(256)) * 64
    channel.send(commands.Basic.Publish(0, "", queue))
    channel.probe.send_raw(2, 1, struct.pack(">HHQH", 60, 0, len(body), 0))
    for start in range(0, len(body), 4088):
        channel.probe.send_raw(3, 1, body[start : start + 4088])
    message = await channel.take(queue)
    assert message.body == body


async def test_frames_to_the_client_keep_to_its_limit(connect: Connect) -> None:
    probe = await connect(frame_max=4096)
    channel = await probe.channel()
    sender = await (await connect()).channel()
    shared = unique()
    await sender.declare(shared, auto_delete=True)
    sender.publish(b"x" * 10_000, shared)
    await channel.consume(shared, no_ack=True)
    assert (await channel.message()).body == b"x" * 10_000
    assert probe.largest_frame <= 4096


async def test_what_cannot_be_agreed_on_ends_the_connection(broker: Broker) -> None:
    # RabbitMQ ends it without a word after three seconds, hence all of them at once. The
    # specification asks for no more; a close that says why is better.
    too_much = "higher than the maximum allowed value"
    expected: list[tuple[dict[str, Any], str]] = [
        ({"frame_max": 131073}, f"NOT_ALLOWED - negotiated frame_max = 131073 is {too_much} (131072)"),
        (
            {"frame_max": 4095},
            "NOT_ALLOWED - negotiated frame_max = 4095 is lower than the minimum allowed value (4096)",
        ),
        ({"channel_max": 2048}, f"NOT_ALLOWED - negotiated channel_max = 2048 is {too_much} (2047)"),
        ({"mechanism": "NOPE"}, "COMMAND_INVALID - unknown authentication mechanism 'NOPE'"),
        ({"password": "wrong", "capabilities": {}}, "(nothing: this client would not understand)"),
    ]
    answers = await asyncio.gather(
        *(Probe.connect(broker.url, **options) for options, _ in expected), return_exceptions=True
    )
    for answer, (options, text) in zip(answers, expected, strict=True):
        assert isinstance(answer, EOFError | ConnectionClosed), options
        if isinstance(answer, ConnectionClosed):
            assert answer.text == text


@pytest.mark.parametrize("vhost", ["nowhere", ""])
async def test_unknown_vhost_is_not_allowed(broker: Broker, vhost: str) -> None:
    with pytest.raises(ConnectionClosed) as caught:
        await Probe.connect(broker.url, vhost=vhost)
    assert caught.value == ConnectionClosed(530, f"NOT_ALLOWED - vhost {vhost} not found", 10, 40)


@pytest.mark.parametrize("options", [{"user": "nobody"}, {"password": "wrong"}])
async def test_refused_login_closes_with_403_for_clients_that_understand_it(
    broker: Broker, options: dict[str, str]
) -> None:
    with pytest.raises(ConnectionClosed) as caught:
        await Probe.connect(broker.url, **options)  # type: ignore[arg-type]  # only texts are passed
    text = (
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
        "For details see the broker logfile."
    )
    assert caught.value == ConnectionClosed(403, text, 0, 0)


async def test_amqplain_login_is_a_table(connect: Connect) -> None:
    response = "\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x05guest"
    probe = await connect(mechanism="AMQPLAIN", response=response)
    await probe.channel()


async def test_amqplain_login_can_be_refused(broker: Broker) -> None:
    response = "\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x05wrong"
    with pytest.raises(ConnectionClosed) as caught:
        await Probe.connect(broker.url, mechanism="AMQPLAIN", response=response)
    assert caught.value.code == 403
    assert "mechanism AMQPLAIN" in caught.value.text


async def test_clients_close_is_confirmed_and_what_it_sends_after_is_ignored(connection: Probe) -> None:
    await connection.channel(1)
    connection.send(commands.Connection.Close(200, "bye", 0, 0))
    connection.send(declare("missing", passive=True), 1)
    await connection.expect(commands.Connection.CloseOk)
    assert connection.seen() == []


async def test_exclusive_queues_are_gone_when_the_close_is_confirmed(connect: Connect) -> None:
    probe = await connect()
    channel = await probe.channel()
    name = unique()
    await channel.declare(name, exclusive=True)
    probe.send(commands.Connection.Close(200, "bye", 0, 0))
    await probe.expect(commands.Connection.CloseOk)
    other = await (await connect()).channel()
    await other.declare(name, exclusive=True)


async def test_exclusive_queues_go_with_a_dropped_socket(connect: Connect) -> None:
    probe = await connect()
    name = unique()
    await (await probe.channel()).declare(name, exclusive=True)
    await probe.drop()
    other = await connect()
    while True:  # until the broker has noticed; the probe's patience bounds each try
        channel = await other.channel()
        closed = None
        channel.send(declare(name, exclusive=True))
        event = await channel.next()
        if isinstance(event, commands.Queue.DeclareOk):
            break
        assert isinstance(event, commands.Channel.Close) and event.reply_code == 405, closed
        channel.send(commands.Channel.CloseOk())


async def test_unacked_messages_of_a_dropped_socket_come_back_redelivered(connect: Connect) -> None:
    watcher = await (await connect()).channel()
    name = unique()
    await watcher.declare(name, auto_delete=True)
    await watcher.put(name, b"once")
    probe = await connect()
    channel = await probe.channel()
    message = await channel.get(name)
    assert message is not None and not message.redelivered
    await watcher.consume(name, no_ack=True)
    await probe.drop()
    again = await watcher.message()
    assert (again.body, again.redelivered) == (b"once", True)


async def test_secret_can_be_updated(connection: Probe) -> None:
    connection.send(commands.Connection.UpdateSecret("guest", "rotation"))
    await connection.expect(commands.Connection.UpdateSecretOk)
    await connection.channel()


@pytest.mark.parametrize(
    ("method", "ids"),
    [
        (commands.Connection.Open("/"), (10, 40)),
        (commands.Connection.TuneOk(10, 4096, 0), (10, 31)),
        (commands.Connection.StartOk({}, "PLAIN", "\0guest\0guest", "en_US"), (10, 11)),
        (declare("q", passive=True), (50, 10)),
    ],
)
async def test_method_out_of_place_on_channel_0_is_a_channel_error(
    connection: Probe, method: commands.Connection.Open, ids: tuple[int, int]
) -> None:
    connection.send(method)
    assert await connection.closed() == ConnectionClosed(504, RUNNING, *ids)
    await connection.eof()


async def test_methods_after_our_close_are_ignored_until_close_ok(connection: Probe) -> None:
    channel = await connection.channel()
    connection.send(commands.Channel.Open(), channel.number)  # a second open: 504
    channel.send(declare(unique()))
    channel.send(declare(unique()))
    assert await connection.closed() == ConnectionClosed(
        504, "CHANNEL_ERROR - second 'channel.open' seen", 20, 10
    )
    await connection.eof()
    assert connection.seen() == []


async def test_access_request_of_old_clients_is_granted(connection: Probe) -> None:
    channel = await connection.channel()
    connection.send_method(channel.number, 30, 10, b"\x05/data\x1f")
    assert await channel.next() == Unknown(METHOD, b"\x00\x1e\x00\x0b\x00\x01")


async def test_a_connection_can_talk_on_while_another_breaks(connect: Connect) -> None:
    good, bad = await connect(), await connect()
    channel = await good.channel()
    queue = await channel.queue()
    bad.send_raw(5, 0, b"abc")
    assert isinstance(await bad.closed(), ConnectionClosed)
    channel.publish(b"fine", queue)
    assert isinstance(await channel.get(queue), Message)


async def test_half_a_method_then_eof_is_nobodys_trouble(broker: Broker, channel: Channel) -> None:
    probe = await Probe.dial(broker.url)
    probe.write(b"AMQP\x00\x00\x09\x01\x01\x00\x00")
    await probe.expect(commands.Connection.Start)
    await probe.drop()
    assert await channel.queue()
