"""Faults of messages and connections, as a client without sockets sees them."""

from __future__ import annotations

from typing import Any

import pytest
from pamqp import commands

from msctl.broker.core.broker import Alarm, Broker
from msctl.broker.session.faults import BrokerFaults
from msctl.faults.active import ActiveFault
from msctl.faults.parse import fault_from
from tests.support.clock import FakeClock
from tests.unit.broker.client import Client, make_broker


class Rig:
    """A broker with faults, and a client with channel 1 open and the queue `q`."""

    def __init__(self, *, confirms: bool = False, **connection: Any) -> None:
        self.clock = FakeClock()
        self.broker: Broker = make_broker(self.clock)
        self.told: list[tuple[tuple[str, ...], str]] = []
        self.faults = BrokerFaults(self.broker, lambda ids, parent: self.told.append((tuple(ids), parent)))
        self.active: list[ActiveFault] = []
        self.client = self.connect(**connection)
        if confirms:
            self.client.call(commands.Confirm.Select(), commands.Confirm.SelectOk)

    def connect(self, **connection: Any) -> Client:
        client = Client(self.broker, **connection)
        client.open()
        client.queue()
        return client

    def add(self, kind: str, target: str = "q", *, seed: int = 1, **options: Any) -> ActiveFault:
        spec = fault_from({"kind": kind, "target": target, **options})
        fault = ActiveFault(f"f{len(self.active) + 1}", spec, seed, 60.0)
        self.active.append(fault)
        self.faults.set(self.active)
        return fault

    def clear(self) -> None:
        self.active.clear()
        self.faults.set(())
        self.client.run()

    def confirmed(self) -> list[tuple[int, bool, str]]:
        """The confirms so far, taken out: tag, multiple, ack or nack."""
        kinds = (commands.Basic.Ack, commands.Basic.Nack)
        found = [event for _, event in self.client.events if isinstance(event, kinds)]
        self.client.events = [each for each in self.client.events if not isinstance(each[1], kinds)]
        return [
            (each.delivery_tag or 0, bool(each.multiple), each.name.split(".")[1].lower()) for each in found
        ]

    def pass_time(self, seconds: float) -> None:
        self.clock.set(self.clock.monotonic() + seconds)
        due = self.broker.next_reminder()
        if due is not None and due <= self.clock.monotonic():
            self.broker.tick()
        self.client.run()

    @property
    def ready(self) -> int:
        return self.broker.vhosts["/"].queues["q"].ready.count


def burst(rig: Rig, *bodies: bytes, **options: Any) -> None:
    """Publish several messages in one piece, as a client that pipelines does."""
    rig.client.feed(b"".join(rig.client.publish_bytes(body, **options) for body in bodies))


def test_without_a_fault_the_broker_has_nothing_to_ask() -> None:
    rig = Rig(confirms=True)
    asked = [rig.broker.faults is not None]
    fault = rig.add("nack")
    asked.append(rig.broker.faults is not None)
    rig.clear()
    asked.append(rig.broker.faults is not None)
    assert asked == [False, True, False]
    rig.client.publish(b"x")
    assert (rig.confirmed(), fault.hits) == ([(1, False, "ack")], 0)


def test_a_lost_confirm_is_covered_by_no_other_one() -> None:
    rig = Rig(confirms=True)
    rig.client.publish(b"0")
    rig.add("confirm-lost", share=50, seed=3)
    burst(rig, *(b"%d" % n for n in range(20)))
    confirmed = rig.confirmed()
    lost = set(range(1, 22)) - {tag for tag, _, _ in confirmed}
    assert (len(lost), rig.ready) == (rig.active[0].hits, 21)
    assert lost
    assert not any(multiple for _, multiple, _ in confirmed)
    rig.clear()
    burst(rig, b"a", b"b", b"c")
    # A confirm of several would include the lost ones: there is none on this channel any more.
    assert rig.confirmed() == [(22, False, "ack"), (23, False, "ack"), (24, False, "ack")]


def test_a_late_confirm_comes_alone_and_at_its_time() -> None:
    rig = Rig(confirms=True)
    rig.add("confirm-delay", delay="2s")
    burst(rig, b"a", b"b")
    rig.pass_time(1.9)
    assert rig.confirmed() == []
    rig.pass_time(0.2)
    assert rig.confirmed() == [(1, False, "ack"), (2, False, "ack")]
    burst(rig, b"c")
    rig.clear()  # what waits is sent at the end
    assert rig.confirmed() == [(3, False, "ack")]


def test_a_late_confirm_of_a_closed_channel_is_dropped() -> None:
    rig = Rig(confirms=True)
    rig.add("confirm-delay", delay="2s")
    rig.client.publish(b"a")
    rig.client.call(commands.Channel.Close(200, "bye", 0, 0), commands.Channel.CloseOk)
    rig.pass_time(3)
    assert rig.confirmed() == []


def test_what_is_put_off_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msctl.broker.session.faults.MAX_LATER", 3)
    rig = Rig(confirms=True)
    rig.add("confirm-delay", delay="2s")
    burst(rig, b"a", b"b", b"c", b"d", b"e")
    assert rig.confirmed() == [(1, False, "ack"), (2, False, "ack")]


def test_a_nacked_message_is_not_stored() -> None:
    rig = Rig(confirms=True)
    rig.add("nack")
    burst(rig, b"a", b"b")
    assert (rig.confirmed(), rig.ready) == ([(1, False, "nack"), (2, False, "nack")], 0)


def test_without_confirms_there_is_nothing_to_nack() -> None:
    rig = Rig()
    fault = rig.add("nack")
    rig.client.publish(b"a")
    assert (rig.ready, fault.hits) == (1, 0)


@pytest.mark.parametrize("confirms", [False, True])
def test_a_lost_message_is_neither_stored_nor_confirmed(confirms: bool) -> None:
    rig = Rig(confirms=confirms)
    fault = rig.add("message-lost")
    burst(rig, b"a", b"b")
    assert (rig.confirmed(), rig.ready, fault.hits) == ([], 0, 2)


def test_a_duplicated_message_is_stored_twice_and_confirmed_once() -> None:
    rig = Rig(confirms=True)
    rig.add("duplicate")
    rig.client.publish(b"a")
    assert (rig.confirmed(), rig.ready) == ([(1, False, "ack")], 2)


@pytest.mark.parametrize(
    ("target", "hit"),
    [("q", True), ("queue:other", False), ("broker", True), ("exchange:e", False), ("connection:gu*", True),
     ("connection:somebody", False)],
)  # fmt: skip
def test_only_the_target_s_messages_are_hit(target: str, hit: bool) -> None:
    rig = Rig(confirms=True)
    rig.add("message-lost", target)
    rig.client.publish(b"a")
    assert rig.ready == (0 if hit else 1)


def test_the_repeated_publishes_of_the_fast_path_are_hit_too() -> None:
    rig = Rig()
    burst(rig, *(b"a",) * 10)
    fault = rig.add("message-lost", share=50)
    burst(rig, *(b"a",) * 100)
    assert rig.ready == 110 - fault.hits
    assert 20 < fault.hits < 80


def test_a_delayed_delivery_arrives_at_its_time_and_can_be_acknowledged() -> None:
    rig = Rig()
    rig.client.consume()
    fault = rig.add("delivery-delay", delay="2s")
    burst(rig, b"a", b"b")
    rig.pass_time(1.9)
    assert rig.client.bodies() == []
    rig.pass_time(0.2)
    assert rig.client.messages() == [(1, b"a", False), (2, b"b", False)]
    rig.client.send(commands.Basic.Ack(2, True))
    assert (rig.broker.memory.messages, fault.hits) == (0, 2)


def test_an_acknowledgement_of_several_leaves_out_what_is_held_back() -> None:
    rig = Rig()
    rig.client.consume()
    rig.client.publish(b"a")
    rig.add("delivery-delay", delay="2s")
    rig.client.publish(b"b")
    assert rig.client.messages() == [(1, b"a", False)]
    rig.client.send(commands.Basic.Ack(0, True))
    rig.pass_time(3)
    assert rig.client.messages() == [(2, b"b", False)]


@pytest.mark.parametrize("how", ["cancel", "close", "end"])
def test_what_is_held_back_returns_to_its_queue(how: str) -> None:
    rig = Rig()
    rig.client.consume()
    rig.add("delivery-delay", delay="2s")
    burst(rig, b"a", b"b")
    if how == "cancel":
        rig.client.call(commands.Basic.Cancel("c"), commands.Basic.CancelOk)
    elif how == "close":
        rig.client.call(commands.Channel.Close(200, "bye", 0, 0), commands.Channel.CloseOk)
    else:
        rig.client.session.lost()
    assert rig.ready == 2
    rig.clear()
    other = rig.connect()
    other.consume()
    assert other.bodies() == [b"a", b"b"]
    other.send(commands.Basic.Ack(0, True))
    assert rig.broker.memory.messages == 0


def test_the_prefetch_limit_counts_what_is_held_back() -> None:
    rig = Rig()
    rig.client.call(commands.Basic.Qos(0, 2, False), commands.Basic.QosOk)
    rig.client.consume()
    rig.add("delivery-delay", delay="2s")
    burst(rig, b"a", b"b", b"c")
    assert rig.ready == 1
    rig.pass_time(2)
    assert rig.client.bodies() == [b"a", b"b"]


def test_a_reordered_message_is_overtaken_by_the_next_one() -> None:
    rig = Rig()
    rig.client.consume()
    rig.add("reorder", share=50, seed=5)
    burst(rig, *(b"%d" % n for n in range(20)))
    rig.pass_time(2)  # the last one may have nothing behind it
    bodies = rig.client.bodies()
    assert sorted(bodies, key=int) == [b"%d" % n for n in range(20)]
    assert bodies != sorted(bodies, key=int)


def test_a_consumer_that_comes_during_a_fault_has_it_and_loses_it_at_the_end() -> None:
    rig = Rig()
    rig.add("delivery-delay", delay="2s")
    rig.client.consume()
    rig.client.publish(b"a")
    assert rig.client.bodies() == []
    rig.clear()
    assert rig.client.bodies() == [b"a"]
    rig.client.publish(b"b")
    assert rig.client.bodies() == [b"b"]


def test_a_connection_is_cut_after_exactly_so_many_frames() -> None:
    rig = Rig()
    fault = rig.add("cut", "broker", frames=7)
    rig.faults.begin_cut(fault)
    burst(rig, *(b"a",) * 10)  # three frames each
    assert (rig.ready, rig.client.session.open, rig.client.session.finished) == (2, False, True)
    other = Client(rig.broker)
    other.open()
    assert other.session.frame_budget == 6
    rig.clear()
    assert other.session.frame_budget is None


def test_a_channel_is_closed_by_the_broker_and_others_are_not() -> None:
    rig = Rig()
    rig.client.consume()
    rig.client.open(2)
    rig.client.publish(b"a")
    fault = rig.add("channel-close")
    rig.faults.close_channels(fault)
    rig.client.run()
    closed = rig.client.take(commands.Channel.Close)
    assert (closed.reply_code, fault.hits, rig.ready) == (406, 1, 1)
    rig.client.send(commands.Channel.CloseOk())
    rig.client.open(1)


def test_a_message_whose_channel_is_closed_again_and_again_is_dead_lettered() -> None:
    rig = Rig()
    arguments: dict[str, Any] = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 1,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "q",
    }
    rig.client.call(
        commands.Queue.Declare(queue="work", durable=True, arguments=arguments), commands.Queue.DeclareOk
    )
    rig.client.publish(b"a", "work")
    for number in range(2):
        rig.client.consume("work")
        assert rig.client.bodies() == [b"a"]
        fault = rig.add("channel-close", "work")
        rig.faults.close_channels(fault)
        rig.client.run()
        rig.client.take(commands.Channel.Close)
        rig.client.send(commands.Channel.CloseOk())
        rig.client.open()
        assert rig.ready == number
    assert rig.client.call(commands.Basic.Get(queue="q"), commands.Basic.GetOk).delivery_tag == 1
    assert rig.client.events[0][1].properties.headers["x-first-death-reason"] == "delivery_limit"


def test_a_cancelled_consumer_is_told_and_gets_nothing_more() -> None:
    rig = Rig()
    rig.client.consume()
    fault = rig.add("consumer-cancel")
    rig.faults.cancel_consumers(fault)
    rig.client.run()
    assert rig.client.take(commands.Basic.Cancel).consumer_tag == "c"
    rig.client.publish(b"a")
    assert (rig.ready, fault.hits) == (1, 1)
    rig.client.consume()
    assert rig.client.bodies() == [b"a"]


def test_a_held_alarm_does_not_end_by_itself() -> None:
    rig = Rig()
    rig.broker.alarm_held = True
    rig.broker.raise_alarm(Alarm.MEMORY, "the fault f1")
    rig.client.publish(b"a")
    assert (rig.ready, rig.client.session.blocked) == (0, True)
    rig.broker.alarm_held = False
    rig.broker.check_memory()
    rig.client.run()
    assert rig.ready == 1


def test_the_trace_of_a_message_is_told_of_its_faults() -> None:
    rig = Rig()
    rig.add("message-lost")
    rig.client.publish(b"a", headers={"traceparent": "00-1-2-01"})
    assert rig.told == [(("f1",), "00-1-2-01")]
