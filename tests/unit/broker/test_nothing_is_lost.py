"""A model of queues under every order of publish, take, settle, requeue, reject and loss of a channel.

Whatever happens, each message is in exactly one place: ready, out with somebody, dead-lettered,
or settled; and ready messages are in the order in which they were published.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from pamqp import commands

from msctl.broker.core.messages import MESSAGE_COST, cost_of
from tests.unit.broker.client import Client, make_broker

pytestmark = pytest.mark.unmeasured
QUEUES = ("plain", "dead")


class Delivery:
    def __init__(self, consumer: int, tag: int, body: bytes) -> None:
        self.consumer = consumer
        self.tag = tag
        self.body = body


class Model(RuleBasedStateMachine):
    """Messages are numbers; `home` says where each is by the model."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = make_broker()
        self.count = 0
        self.settled: set[bytes] = set()
        self.out: dict[bytes, Delivery] = {}
        self.seen: set[bytes] = set()
        self.rejected: set[bytes] = set()
        self.clients: list[Client] = []

    deliveries: Bundle[bytes] = Bundle("deliveries")

    @initialize()
    def begin(self) -> None:
        self.publisher = Client(self.broker)
        self.publisher.open()
        self.publisher.queue("dead")
        self.publisher.queue("plain", **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
        for _ in range(2):
            self.clients.append(self.connect())

    def connect(self) -> Client:
        client = Client(self.broker)
        client.open()
        return client

    @rule(many=st.integers(1, 5))
    def publish(self, many: int) -> None:
        for _ in range(many):
            self.count += 1
            self.publisher.publish(b"%06d" % self.count, "plain")

    @rule(who=st.integers(0, 1), queue=st.sampled_from(QUEUES), prefetch=st.integers(0, 3))
    def consume(self, who: int, queue: str, prefetch: int) -> None:
        client = self.clients[who]
        client.call(commands.Basic.Qos(prefetch_count=prefetch), commands.Basic.QosOk)
        client.call(commands.Basic.Consume(queue=queue), commands.Basic.ConsumeOk)

    @rule(who=st.integers(0, 1), queue=st.sampled_from(QUEUES))
    def get(self, who: int, queue: str) -> None:
        self.clients[who].send(commands.Basic.Get(queue=queue))

    @rule(target=deliveries, who=st.integers(0, 1))
    def receive(self, who: int) -> bytes:
        """Look at what a client has been sent; one of what is out is handed to later rules."""
        self.collect()
        return next((body for body, d in self.out.items() if d.consumer == who), b"")

    def collect(self) -> None:
        for number, client in enumerate(self.clients):
            client.run()
            for tag, body, redelivered in client.messages():
                assert body not in self.settled, "a settled message came back"
                assert body not in self.out, "a message is out twice"
                assert redelivered or body not in self.seen or body in self.rejected
                self.seen.add(body)
                self.out[body] = Delivery(number, tag, body)

    @rule(body=consumes(deliveries))
    def ack(self, body: bytes) -> None:
        delivery = self.out.pop(body, None)
        if delivery is not None:
            self.clients[delivery.consumer].send(commands.Basic.Ack(delivery.tag))
            self.settled.add(body)

    @rule(body=consumes(deliveries))
    def ack_all_up_to(self, body: bytes) -> None:
        self.collect()
        delivery = self.out.get(body)
        if delivery is not None:
            upto = {
                other.body
                for other in self.out.values()
                if other.consumer == delivery.consumer and other.tag <= delivery.tag
            }
            for each in upto:
                del self.out[each]
            self.settled |= upto
            self.clients[delivery.consumer].send(commands.Basic.Ack(delivery.tag, multiple=True))

    @rule(body=consumes(deliveries))
    def requeue(self, body: bytes) -> None:
        delivery = self.out.pop(body, None)
        if delivery is not None:
            self.clients[delivery.consumer].send(commands.Basic.Nack(delivery.tag, requeue=True))

    @rule(body=consumes(deliveries))
    def reject(self, body: bytes) -> None:
        """From `plain` it goes to `dead`, from there it is gone."""
        delivery = self.out.pop(body, None)
        if delivery is not None:
            if body in self.rejected:
                self.settled.add(body)
            self.rejected.add(body)
            self.clients[delivery.consumer].send(commands.Basic.Reject(delivery.tag, requeue=False))

    @rule(who=st.integers(0, 1))
    def lose_connection(self, who: int) -> None:
        self.collect()
        self.clients[who].session.lost()
        self.out = {body: d for body, d in self.out.items() if d.consumer != who}
        self.clients[who] = self.connect()

    @rule(who=st.integers(0, 1))
    def recover(self, who: int) -> None:
        self.collect()
        self.out = {body: d for body, d in self.out.items() if d.consumer != who}
        self.clients[who].call(commands.Basic.Recover(requeue=True), commands.Basic.RecoverOk)

    @invariant()
    def every_message_is_in_one_place(self) -> None:
        if not self.clients:
            return
        self.collect()
        queues = self.broker.vhosts["/"].queues
        ready = {name: [m[2] for m, _ in queues[name].ready.waiting()] for name in QUEUES}
        everywhere = ready["plain"] + ready["dead"] + list(self.out) + list(self.settled)
        assert sorted(everywhere) == [b"%06d" % number for number in range(1, self.count + 1)]
        assert ready["plain"] == sorted(ready["plain"])
        assert sum(queues[name].unacked for name in QUEUES) == len(self.out)
        waiting = len(ready["plain"]) + len(ready["dead"]) + len(self.out)
        assert self.broker.memory.messages == waiting
        ready_bytes = sum(cost_of(m) for name in QUEUES for m, _ in queues[name].ready.waiting())
        out_bytes = self.broker.memory.used - ready_bytes
        assert out_bytes >= len(self.out) * MESSAGE_COST
        assert self.out or out_bytes == 0


TestNothingIsLost = Model.TestCase
TestNothingIsLost.settings = settings(
    max_examples=settings().max_examples * 3 // 5, stateful_step_count=40, deadline=None
)
