"""A connection in memory: handshake, close, time limits, memory alarm, arbitrary bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, frame

from msctl.broker.core.broker import Alarm
from msctl.broker.core.messages import MESSAGE_COST
from msctl.broker.protocol import wire
from msctl.broker.session.session import SessionState
from tests.support.clock import FakeClock
from tests.unit.broker.client import Client, make_broker


def test_wrong_protocol_header_is_answered_with_the_right_one() -> None:
    client = Client(make_broker(), handshake=False)
    client.feed(b"GET / HTTP/1.1\r\n\r\n")
    assert client.events == [(0, wire.PROTOCOL_HEADER)]
    assert client.session.finished


def test_protocol_header_may_arrive_in_pieces() -> None:
    client = Client(make_broker(), handshake=False)
    for byte in wire.PROTOCOL_HEADER:
        assert client.events == []
        client.feed(bytes((byte,)))
    start = client.take(commands.Connection.Start, 0)
    assert start.mechanisms == "PLAIN AMQPLAIN"
    assert start.server_properties["product"] == "RabbitMQ"


def test_frames_may_arrive_byte_by_byte() -> None:
    client = Client(make_broker())
    client.open()
    client.queue()
    client.consume(no_ack=True)
    for byte in client.publish_bytes(b"hello"):
        client.feed(bytes((byte,)))
    assert client.bodies() == [b"hello"]


def test_wrong_password_is_refused_with_a_close() -> None:
    client = Client(make_broker(), handshake=False)
    with pytest.raises(AssertionError):
        client.handshake(password="wrong")
    assert client.take(commands.Connection.Close, 0).reply_code == 403


def test_wrong_password_of_an_old_client_closes_the_socket() -> None:
    client = Client(make_broker(), handshake=False)
    with pytest.raises(AssertionError):
        client.handshake(password="wrong", capabilities={})
    assert client.session.finished
    assert [type(event) for _, event in client.events] == [commands.Connection.Start]


def test_slow_handshake_times_out() -> None:
    clock = FakeClock()
    client = Client(make_broker(clock), handshake=False)
    client.feed(wire.PROTOCOL_HEADER)
    clock.set(9.9)
    client.session.tick(clock.monotonic())
    assert not client.session.finished
    clock.set(10.0)
    client.session.tick(clock.monotonic())
    assert client.session.finished


def test_heartbeats_are_sent_every_half_interval_and_expected_within_two() -> None:
    clock = FakeClock()
    client = Client(make_broker(clock), heartbeat=10)
    clock.set(4.9)
    client.session.tick(4.9)
    assert client.session.take_output() == b""
    clock.set(5.0)
    client.session.tick(5.0)
    assert client.session.take_output() == wire.HEARTBEAT_FRAME
    clock.set(15.0)
    client.feed(wire.HEARTBEAT_FRAME)
    clock.set(34.0)
    client.session.tick(34.0)
    assert not client.session.finished
    clock.set(36.0)
    client.session.tick(36.0)
    assert client.session.finished


def test_silent_connection_without_heartbeats_stays_open() -> None:
    clock = FakeClock()
    client = Client(make_broker(clock), heartbeat=0)
    clock.set(100_000.0)
    client.session.tick(clock.monotonic())
    assert client.session.state is SessionState.RUNNING


def test_close_without_close_ok_times_out() -> None:
    clock = FakeClock()
    client = Client(make_broker(clock))
    client.send(commands.Basic.Publish(immediate=True, routing_key="q"))
    assert client.take(commands.Connection.Close, 0).reply_code == 504
    client.send(commands.Channel.Open(), 2)
    assert client.events == []
    clock.set(31.0)
    client.session.tick(31.0)
    assert client.session.finished


def test_closing_releases_exclusive_queues_before_close_ok() -> None:
    broker = make_broker()
    client = Client(broker)
    client.open()
    client.call(commands.Queue.Declare(queue="mine", exclusive=True), commands.Queue.DeclareOk)
    assert "mine" in broker.vhosts["/"].queues
    client.call(commands.Connection.Close(200, "bye", 0, 0), commands.Connection.CloseOk, 0)
    assert "mine" not in broker.vhosts["/"].queues
    assert not client.session.open


def test_lost_connection_releases_everything() -> None:
    broker = make_broker()
    client = Client(broker)
    client.open()
    client.queue()
    client.publish(b"1")
    client.consume()
    client.feed(client.publish_bytes(b"half of a longer one")[:-9])
    client.session.lost()
    queue = broker.vhosts["/"].queues["q"]
    assert (queue.ready.count, queue.unacked, len(queue.consumers)) == (1, 0, 0)
    assert not broker.sessions and not broker.dirty


def test_forced_close_gives_a_reason_and_stops_deliveries() -> None:
    broker = make_broker()
    client = Client(broker)
    client.open()
    client.queue()
    client.consume(no_ack=True)
    client.session.force_close("the stack stops")
    other = Client(broker)
    other.open()
    other.publish(b"late")
    client.run()
    close = client.take(commands.Connection.Close, 0)
    assert (close.reply_code, close.reply_text) == (320, "CONNECTION_FORCED - the stack stops")
    assert client.bodies() == []
    client.send(commands.Connection.CloseOk(), 0)
    assert client.session.finished


def test_channel_max_counts_open_channels() -> None:
    client = Client(make_broker(), channel_max=2)
    client.open(7)
    client.open(65535)
    client.call(commands.Channel.Close(200, "", 0, 0), commands.Channel.CloseOk, 7)
    client.open(8)
    client.send(commands.Channel.Open(), 9)
    close = client.take(commands.Connection.Close, 0)
    assert close.reply_code == 530
    assert "number of channels opened (2) has reached the negotiated channel_max (2)" in close.reply_text


def test_two_thousand_channels_can_be_open() -> None:
    client = Client(make_broker())
    client.open()
    client.queue()
    for number in range(2, 2001):
        client.open(number)
        client.publish(b"x", channel=number)
    assert client.session.channel_count == 2000
    assert client.broker.vhosts["/"].queues["q"].ready.count == 1999


def test_publisher_is_told_of_the_alarm_at_the_first_frame_of_its_next_message() -> None:
    client = Client(make_broker())
    client.open()
    client.queue()
    message = client.publish_bytes(b"m")
    client.feed(message * 2)
    client.broker.raise_alarm(Alarm.DISK, "full")
    client.feed(frame.marshal(commands.Basic.Publish(routing_key="q"), 1))
    assert message.startswith(frame.marshal(commands.Basic.Publish(routing_key="q"), 1))
    client.take(commands.Connection.Blocked, 0)


def test_publisher_is_blocked_during_the_memory_alarm() -> None:
    broker = make_broker(memory_limit=100_000)
    publisher, consumer = Client(broker), Client(broker)
    publisher.open()
    publisher.queue()
    consumer.open()
    publisher.publish(b"x" * 99_999)
    assert publisher.take(commands.Connection.Blocked, 0).reason == "low on memory"
    publisher.publish(b"more")
    queue = broker.vhosts["/"].queues["q"]
    assert queue.ready.count == 1, "what comes while blocked waits in the socket"
    consumer.send(commands.Basic.Get(queue="q", no_ack=True))
    assert len(consumer.bodies()[0]) == 99_999
    publisher.run()
    publisher.take(commands.Connection.Unblocked, 0)
    assert queue.ready.count == 1
    assert not publisher.session.blocked


def test_unfinished_messages_and_transactions_count_as_memory() -> None:
    broker = make_broker(memory_limit=50_000)
    client = Client(broker)
    client.open()
    before = broker.memory.used
    whole = client.publish_bytes(b"x" * 60_000, frame_max=4096)
    client.feed(whole[:-5000])
    assert broker.memory.used > 50_000
    client.session.lost()
    assert broker.memory.used == before
    other = Client(broker)
    other.open()
    other.call(commands.Tx.Select(), commands.Tx.SelectOk)
    other.queue()
    other.publish(b"x" * 10_000)
    assert broker.memory.used > 10_000
    other.call(commands.Tx.Rollback(), commands.Tx.RollbackOk)
    assert broker.memory.used == before


def test_peer_that_reads_no_output_is_paused_and_then_closed() -> None:
    clock = FakeClock()
    client = Client(make_broker(clock))
    client.open()
    client.queue()
    client.publish(b"x" * 90_000)
    client.session.outbox.written(writable=False)
    ask = frame.marshal(commands.Basic.Get(queue="q"), 1) + frame.marshal(
        commands.Basic.Nack(0, multiple=True), 1
    )
    client.session.receive(ask * 500)
    taken = 0
    while client.session.process(100):
        taken += len(client.session.take_output())
    taken += len(client.session.take_output())
    assert 8_000_000 < taken < 20_000_000, "answers stop, though half the questions are left"
    client.session.tick(clock.monotonic())
    clock.set(31.0)
    client.session.tick(31.0)
    assert client.session.finished


# --- whatever comes ---

chunks = st.lists(
    st.one_of(
        st.binary(max_size=60),
        st.sampled_from(
            [
                wire.PROTOCOL_HEADER,
                wire.HEARTBEAT_FRAME,
                frame.marshal(commands.Channel.Open(), 1),
                frame.marshal(commands.Queue.Declare(queue="q"), 1),
                frame.marshal(commands.Basic.Publish(routing_key="q"), 1),
                frame.marshal(commands.Basic.Consume(queue="q"), 1),
                frame.marshal(commands.Basic.Get(queue="q"), 1),
                frame.marshal(commands.Basic.Ack(1), 1),
                frame.marshal(commands.Channel.Close(200, "", 0, 0), 1),
                frame.marshal(commands.Connection.Close(200, "", 0, 0), 0),
            ]
        ),
        st.builds(wire.write_frame, st.sampled_from([1, 2, 3, 8]), st.integers(0, 2), st.binary(max_size=40)),
        st.builds(
            lambda channel, method, rest: wire.write_frame(1, channel, wire.METHOD_ID.pack(method) + rest),
            st.integers(0, 2),
            st.sampled_from(sorted(commands.INDEX_MAPPING)),
            st.binary(max_size=30),
        ),
    ),
    max_size=12,
)


@given(chunks, st.booleans())
def test_arbitrary_bytes_get_an_amqp_error_or_a_close(parts: list[bytes], greeted: bool) -> None:
    broker = make_broker()
    bystander = Client(broker)
    bystander.open()
    client = Client(broker, handshake=greeted)
    for part in parts:
        client.feed(part)
    client.session.lost()
    bystander.queue("mine")
    bystander.publish(b"still here", "mine")
    bystander.consume("mine", no_ack=True)
    assert bystander.bodies() == [b"still here"]
    assert broker.memory.used == sum(
        MESSAGE_COST * queue.ready.count + queue.ready.bytes for queue in broker.vhosts["/"].queues.values()
    )
