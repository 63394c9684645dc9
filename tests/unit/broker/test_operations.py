"""Moving messages between queues, and giving dead letters another try."""

from __future__ import annotations

from msctl.broker.core.queues import Queue
from msctl.broker.core.vhost import VirtualHost
from msctl.broker.protocol.properties import headers_of, split
from msctl.broker.session.operations import (
    MESSAGES_PER_STEP,
    Moved,
    back_from_death,
    bindings_to,
    move,
    to_exchange,
    to_queue,
)
from tests.unit.broker.client import Client, make_broker


class Stage:
    """A client, and its broker's queues by name."""

    def __init__(self) -> None:
        self.broker = make_broker()
        self.client = Client(self.broker)
        self.client.open()

    @property
    def vhost(self) -> VirtualHost:
        return self.broker.vhosts["/"]

    def queue(self, name: str, **arguments: str) -> Queue:
        self.client.queue(name, **{key.replace("_", "-"): value for key, value in arguments.items()})
        return self.vhost.queues[name]

    def fill(self, queue: Queue, count: int) -> None:
        for number in range(count):
            self.client.publish(b"%d" % number, queue.name)


def bodies(queue: Queue) -> list[bytes]:
    return [message[2] for message, _ in queue.ready.waiting()]


def test_messages_move_in_order_and_in_steps() -> None:
    stage = Stage()
    one, other = stage.queue("one"), stage.queue("other")
    stage.fill(one, MESSAGES_PER_STEP + 5)
    result = Moved()
    steps = move(stage.broker, stage.vhost, one, to_queue("other"), result)
    next(steps)
    assert (result.moved, one.ready.count) == (MESSAGES_PER_STEP, 5)
    assert len(list(steps)) == 1
    assert (result.moved, result.stayed) == (MESSAGES_PER_STEP + 5, 0)
    assert bodies(other) == [b"%d" % number for number in range(MESSAGES_PER_STEP + 5)]
    assert (one.unacked, bodies(one), stage.broker.memory.messages) == (0, [], other.ready.count)


def test_limit_is_kept_and_a_move_to_the_same_queue_ends() -> None:
    stage = Stage()
    one = stage.queue("one")
    stage.fill(one, 5)
    result = Moved()
    list(move(stage.broker, stage.vhost, one, to_queue("one"), result, limit=2))
    assert (result.moved, bodies(one)) == (2, [b"2", b"3", b"4", b"0", b"1"])
    list(move(stage.broker, stage.vhost, one, to_queue("one"), result))
    assert result.moved == 7


def test_message_that_finds_no_queue_stays_at_its_place() -> None:
    stage = Stage()
    one = stage.queue("one")
    stage.fill(one, 3)
    result = Moved()
    for choose in (to_queue("nowhere"), to_exchange("nowhere"), to_exchange("amq.direct", "k")):
        list(move(stage.broker, stage.vhost, one, choose, result))
    assert (result.moved, result.stayed) == (0, 9)
    assert (bodies(one), one.unacked) == ([b"0", b"1", b"2"], 0)


def test_a_move_that_is_abandoned_loses_nothing() -> None:
    stage = Stage()
    one = stage.queue("one")
    stage.fill(one, MESSAGES_PER_STEP + 1)
    steps = move(stage.broker, stage.vhost, one, to_queue("nowhere"), Moved())
    next(steps)
    steps.close()
    assert (one.ready.count, one.unacked) == (MESSAGES_PER_STEP + 1, 0)


def test_dead_letters_return_to_where_they_died_without_a_trace() -> None:
    stage = Stage()
    dead = stage.queue("dead")
    work = stage.queue("work", x_dead_letter_exchange="", x_dead_letter_routing_key="dead")
    stage.client.publish(b"letter", "work", headers={"mine": 1})
    taken = work.get(no_ack=False)
    assert taken is not None
    work.reject(taken[1])
    stage.client.publish(b"no letter", "dead")
    result = Moved()
    list(move(stage.broker, stage.vhost, dead, back_from_death, result))
    assert (result.moved, result.stayed) == (1, 1)
    (message,) = [message for message, _ in work.ready.waiting()]
    assert message[2] == b"letter"
    assert (headers_of(split(message[1])) or {}).keys() == {b"mine"}
    assert bodies(dead) == [b"no letter"]


def test_bindings_of_a_queue_are_found() -> None:
    stage = Stage()
    one = stage.queue("one")
    stage.vhost.routing.bind("amq.topic", "one", "queue", "a.#", {}, None)
    assert [(each.source.name, each.key) for each in bindings_to(stage.vhost, one)] == [("amq.topic", "a.#")]
