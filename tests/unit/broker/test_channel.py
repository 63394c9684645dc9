"""Channels beyond the differential tests: order, bookkeeping and the publish fast path."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, frame

from msctl.broker.protocol import wire
from tests.unit.broker.client import Client, make_broker


def opened(**options: Any) -> Client:
    client = Client(make_broker(**options))
    client.open()
    return client


def test_batch_is_confirmed_with_one_frame() -> None:
    client = opened()
    client.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
    client.queue()
    client.feed(client.publish_bytes(b"1") * 5)
    ack = client.take(commands.Basic.Ack)
    assert (ack.delivery_tag, ack.multiple) == (5, True)
    client.publish(b"6")
    ack = client.take(commands.Basic.Ack)
    assert (ack.delivery_tag, ack.multiple) == (6, False)


def test_refused_message_is_nacked_in_order() -> None:
    client = opened()
    client.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
    client.queue("full", **{"x-max-length": 0, "x-overflow": "reject-publish"})
    client.queue("q")
    good, bad = client.publish_bytes(b"g"), client.publish_bytes(b"b", "full")
    client.feed(good + good + bad + good)
    settled = [event for _, event in client.events]
    assert [(type(e).__name__, e.delivery_tag, e.multiple) for e in settled] == [
        ("Ack", 2, True),
        ("Nack", 3, False),
        ("Ack", 4, False),
    ]


def test_repeated_publishes_are_routed_like_the_first() -> None:
    client = opened()
    client.queue()
    client.feed(client.publish_bytes(b"12345", content_type="text/plain") * 50)
    client.feed(client.publish_bytes(b"abcde", content_type="text/plain") * 50)
    client.consume(no_ack=True)
    assert client.bodies() == [b"12345"] * 50 + [b"abcde"] * 50


def test_repeated_publish_follows_a_changed_exchange() -> None:
    client = opened()
    client.queue("one")
    client.queue("two")
    client.call(commands.Exchange.Declare(exchange="x"), commands.Exchange.DeclareOk)
    message = client.publish_bytes(b"m", "k", exchange="x")
    client.call(commands.Queue.Bind(queue="one", exchange="x", routing_key="k"), commands.Queue.BindOk)
    client.feed(message * 2)
    client.call(commands.Queue.Bind(queue="two", exchange="x", routing_key="k"), commands.Queue.BindOk)
    client.feed(message * 2)
    client.call(commands.Queue.Delete(queue="one"), commands.Queue.DeleteOk)
    client.feed(message * 2)
    queues = client.broker.vhosts["/"].queues
    assert queues["two"].ready.count == 4
    client.call(commands.Exchange.Delete(exchange="x"), commands.Exchange.DeleteOk)
    client.feed(message * 2)
    close = client.take(commands.Channel.Close)
    assert (close.reply_code, close.class_id, close.method_id) == (404, 60, 40)


def test_repeated_publish_in_a_transaction_waits_for_the_commit() -> None:
    client = opened()
    client.queue()
    message = client.publish_bytes(b"m")
    client.feed(message * 2)
    client.call(commands.Tx.Select(), commands.Tx.SelectOk)
    client.feed(message * 3)
    queue = client.broker.vhosts["/"].queues["q"]
    assert queue.ready.count == 2
    client.call(commands.Tx.Commit(), commands.Tx.CommitOk)
    assert queue.ready.count == 5


def test_frames_on_a_closed_channel_are_ignored_until_close_ok() -> None:
    client = opened()
    client.queue()
    client.send(commands.Queue.Declare(queue="nowhere", passive=True))
    assert client.take(commands.Channel.Close).reply_code == 404
    client.publish(b"ignored")
    client.send(commands.Queue.Declare(queue="new"))
    assert client.events == []
    client.call(commands.Channel.Close(200, "", 0, 0), commands.Channel.CloseOk)
    client.send(commands.Channel.CloseOk())
    client.open()
    queues = client.broker.vhosts["/"].queues
    assert list(queues) == ["q"] and queues["q"].ready.count == 0


def test_cost_of_a_multiple_ack_does_not_grow_with_earlier_acks() -> None:
    client = opened()
    client.queue()
    client.feed(client.publish_bytes(b"m") * 300)
    client.consume()
    tags = [tag for tag, _, _ in client.messages()]
    assert tags == list(range(1, 301))
    client.send(commands.Basic.Ack(100, multiple=True))
    client.send(commands.Basic.Ack(102))
    client.send(commands.Basic.Nack(110, multiple=True, requeue=False))
    client.send(commands.Basic.Ack(300, multiple=True))
    queue = client.broker.vhosts["/"].queues["q"]
    assert (queue.ready.count, queue.unacked, client.broker.memory.used) == (0, 0, 0)
    client.send(commands.Basic.Ack(300))
    assert client.take(commands.Channel.Close).reply_text == "PRECONDITION_FAILED - unknown delivery tag 300"


def test_rolled_back_ack_can_be_repeated() -> None:
    client = opened()
    client.queue()
    client.feed(client.publish_bytes(b"m") * 3)
    client.consume()
    client.messages()
    client.call(commands.Tx.Select(), commands.Tx.SelectOk)
    client.send(commands.Basic.Ack(2, multiple=True))
    client.call(commands.Tx.Rollback(), commands.Tx.RollbackOk)
    client.send(commands.Basic.Ack(1))
    client.call(commands.Tx.Commit(), commands.Tx.CommitOk)
    assert client.broker.vhosts["/"].queues["q"].unacked == 2
    client.send(commands.Basic.Ack(3, multiple=True))
    client.call(commands.Channel.Close(200, "", 0, 0), commands.Channel.CloseOk)
    queue = client.broker.vhosts["/"].queues["q"]
    assert (queue.ready.count, queue.unacked) == (2, 0), "an uncommitted ack is none"


def test_unacking_consumer_gets_no_more_than_its_prefetch() -> None:
    client = opened()
    client.queue()
    client.call(commands.Basic.Qos(prefetch_count=10), commands.Basic.QosOk)
    client.consume(tag="lazy")
    client.feed(client.publish_bytes(b"m") * 100)
    assert len(client.bodies()) == 10
    client.consume(tag="busy", no_ack=True)
    assert len(client.bodies()) == 90


def test_deliveries_pause_at_the_output_limit() -> None:
    client = opened()
    client.queue()
    client.feed(client.publish_bytes(b"x" * 1000) * 500)
    broker = client.broker
    consumer = Client(broker)
    consumer.open()
    consumer.session.outbox.written(writable=False)
    consumer.session.receive(frame.marshal(commands.Basic.Consume(queue="q", no_ack=True), 1))
    consumer.session.process(10)
    while broker.pump(1000):
        pass
    first = consumer.session.take_output()
    assert len(first) < 1000, "nothing but the consume-ok while the peer does not read"
    total = 0
    for _ in range(20):
        consumer.session.outbox.written(writable=True)
        while broker.pump(1000):
            pass
        portion = consumer.session.take_output()
        assert len(portion) < 140_000
        total += len(portion)
    assert total > 500 * 1000
    assert broker.vhosts["/"].queues["q"].ready.count == 0


def test_publishes_with_other_properties_or_sizes_are_kept_apart() -> None:
    client = opened()
    client.queue()
    bodies = [b"x" * (number % 7) for number in range(60)]
    client.feed(
        b"".join(
            client.publish_bytes(body, message_id=str(number // 3)) for number, body in enumerate(bodies)
        )
    )
    client.consume(no_ack=True)
    ids = [event.properties.message_id for _, event in client.events if hasattr(event, "properties")]
    assert ids == [str(number // 3) for number in range(60)]
    assert client.bodies() == bodies


def test_repeated_messages_of_several_body_frames_stay_whole() -> None:
    client = opened()
    client.queue()
    client.feed(client.publish_bytes(b"55", frame_max=9) * 3)
    client.consume(no_ack=True)
    assert client.bodies() == [b"55"] * 3


PUBLISHER = Client(make_broker(), handshake=False)
sent = st.one_of(
    st.builds(
        PUBLISHER.publish_bytes,
        st.sampled_from([b"", b"1", b"2", b"33", b"4" * 5000]),
        st.sampled_from(["q", "q", "q", "other"]),
        message_id=st.sampled_from(["a", "a", "b"]),
    ),
    st.sampled_from(
        [
            wire.HEARTBEAT_FRAME,
            PUBLISHER.publish_bytes(b"55", message_id="a", frame_max=9),
            frame.marshal(commands.Queue.Declare(queue="q", passive=True), 1),
            frame.marshal(commands.Basic.Publish(routing_key="q"), 1),
            PUBLISHER.publish_bytes(b"m", expiration="never"),
        ]
    ),
)


@given(
    st.lists(sent, max_size=8),
    st.lists(st.sampled_from([1, 7, 8, 20, 28, 33, 61, 81, 600, 6000]), min_size=1, max_size=9),
)
def test_input_in_pieces_has_the_answers_of_the_whole(messages: list[bytes], sizes: list[int]) -> None:
    first = PUBLISHER.publish_bytes(b"1", message_id="a")
    data = first + b"".join(messages)
    whole, pieces = opened(), opened()
    for client in (whole, pieces):
        client.queue()
        client.queue("other")
    whole.feed(data)
    cuts = itertools.accumulate(itertools.cycle(sizes))
    start = 0
    for end in itertools.takewhile(lambda cut: cut < len(data), cuts):
        pieces.feed(data[start:end])
        start = end
    pieces.feed(data[start:])
    assert [(at, event.marshal()) for at, event in pieces.events] == [
        (at, event.marshal()) for at, event in whole.events
    ]
    for name in ("q", "other"):
        left = [client.broker.vhosts["/"].queues[name].ready.waiting() for client in (whole, pieces)]
        assert list(left[0]) == list(left[1])
    assert pieces.broker.memory.used == whole.broker.memory.used


def test_publish_that_ends_in_the_middle_is_answered_as_soon_as_it_differs() -> None:
    client = opened()
    client.queue()
    message = client.publish_bytes(b"m")
    client.feed(message)
    method = frame.marshal(commands.Basic.Publish(routing_key="q"), 1)
    assert message.startswith(method)
    client.feed(method)
    assert not client.events
    client.send(commands.Queue.Declare(queue="q", passive=True))
    assert client.take(commands.Connection.Close, 0).reply_code == 505


def test_invalid_message_among_repeated_ones_closes_the_channel() -> None:
    client = opened()
    client.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
    client.queue()
    good = client.publish_bytes(b"m")
    client.feed(good * 3 + client.publish_bytes(b"m", expiration="never") + good * 3)
    ack = client.take(commands.Basic.Ack)
    assert (ack.delivery_tag, ack.multiple) == (3, True)
    close = client.take(commands.Channel.Close)
    assert (close.reply_code, close.class_id, close.method_id) == (406, 60, 40)
    assert client.broker.vhosts["/"].queues["q"].ready.count == 3


def test_publish_after_a_refused_user_id_is_checked_again() -> None:
    client = opened()
    client.queue()
    client.feed(client.publish_bytes(b"m", user_id="guest") * 2)
    client.feed(client.publish_bytes(b"m", user_id="other") * 2)
    assert client.take(commands.Channel.Close).reply_code == 406
    assert client.broker.vhosts["/"].queues["q"].ready.count == 2


def test_repeated_publish_inside_an_unfinished_message_is_unexpected() -> None:
    client = Client(make_broker())
    client.open()
    client.queue()
    whole = client.publish_bytes(b"x")
    client.feed(whole)
    client.send(commands.Basic.Publish(routing_key="other"))
    client.feed(whole)
    assert client.take(commands.Connection.Close, 0).reply_code == 505
    assert client.broker.vhosts["/"].queues["q"].ready.count == 1


def test_direct_reply_address_of_a_cancelled_consumer_is_not_reused() -> None:
    broker = make_broker()
    client = Client(broker)
    client.open()
    client.queue()
    client.consume("amq.rabbitmq.reply-to", tag="replies", no_ack=True)
    client.publish(b"request", reply_to="amq.rabbitmq.reply-to")
    client.call(commands.Basic.Cancel(consumer_tag="replies"), commands.Basic.CancelOk)
    client.publish(b"request", reply_to="amq.rabbitmq.reply-to")
    close = client.take(commands.Channel.Close)
    assert (close.reply_code, "fast reply consumer does not exist" in (close.reply_text or "")) == (406, True)
