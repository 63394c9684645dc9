"""What was deleted has no bindings from that moment on, although thousands are removed in steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from msctl.broker.core.binding_table import AT_ONCE
from msctl.broker.core.broker import Broker
from msctl.broker.core.routing import Routing
from msctl.broker.core.vhost import VirtualHost
from msctl.broker.session.operations import bindings_to
from msctl.broker.storage.records import StoredBinding
from tests.unit.broker.client import make_broker
from tests.unit.broker.storage.run import Run

COUNT = 3 * AT_ONCE
KINDS = ("direct", "topic", "headers", "x-consistent-hash")


@pytest.fixture
def broker() -> Broker:
    return make_broker()


@pytest.fixture
def vhost(broker: Broker) -> VirtualHost:
    return broker.vhosts["/"]


def declare(routing: Routing, name: str, kind: str = "topic", *, auto_delete: bool = False) -> None:
    routing.declare(
        name, kind, passive=False, durable=True, auto_delete=auto_delete, internal=False, arguments={}
    )


def queue(vhost: VirtualHost, name: str) -> None:
    vhost.declare_queue(name, None, durable=True, exclusive=False, auto_delete=False, arguments={})


def bind(vhost: VirtualHost, source: str, destination: str, kind: str = "queue", count: int = COUNT) -> None:
    for number in range(1, count + 1):
        vhost.routing.bind(source, destination, kind, str(number), {}, None)


def reached(vhost: VirtualHost, exchange: str, key: str) -> list[str]:
    return [found.name for found in vhost.routing.route(vhost.routing.exchange(exchange), (key,), {})]


def finish(broker: Broker) -> int:
    """Do the work that waits; returns the number of steps."""
    steps = 0
    while broker.busy:
        broker.do_work(AT_ONCE)
        steps += 1
    return steps


@pytest.mark.parametrize("kind", KINDS)
def test_bindings_of_a_deleted_queue_are_gone_at_once_and_removed_in_steps(
    broker: Broker, vhost: VirtualHost, kind: str
) -> None:
    routing = vhost.routing
    declare(routing, "x", kind)
    queue(vhost, "q")
    queue(vhost, "other")
    bind(vhost, "x", "q")
    routing.bind("x", "other", "queue", "1", {}, None)
    exchange = routing.exchange("x")
    vhost.delete_queue(vhost.queues["q"])
    assert reached(vhost, "x", "1") == ["other"]
    assert [each.destination.name for each in exchange.live_bindings()] == ["other"]
    assert (routing.bindings.count, len(exchange.bindings)) == (1, COUNT + 1)
    assert finish(broker) == 3
    assert list(exchange.bindings.values()) == list(exchange.live_bindings())
    assert (exchange.stale, reached(vhost, "x", "1")) == (0, ["other"])


def test_a_new_queue_of_the_same_name_has_its_own_bindings(broker: Broker, vhost: VirtualHost) -> None:
    declare(vhost.routing, "x")
    queue(vhost, "q")
    bind(vhost, "x", "q")
    vhost.delete_queue(vhost.queues["q"])
    queue(vhost, "q")
    assert reached(vhost, "x", "1") == []
    vhost.routing.bind("x", "q", "queue", "1", {}, None)
    finish(broker)
    assert (reached(vhost, "x", "1"), reached(vhost, "x", "2")) == (["q"], [])
    assert [each.key for each in bindings_to(vhost, vhost.queues["q"])] == ["1"]


@pytest.mark.parametrize("kind", KINDS)
def test_bindings_of_a_deleted_exchange_are_gone_at_once_and_removed_in_steps(
    broker: Broker, vhost: VirtualHost, kind: str
) -> None:
    routing = vhost.routing
    declare(routing, "x", kind)
    queue(vhost, "q")
    bind(vhost, "x", "q")
    routing.bind("amq.direct", "q", "queue", "k", {}, None)
    routing.delete("x", if_unused=False)
    assert (routing.bindings.count, len(bindings_to(vhost, vhost.queues["q"]))) == (1, 1)
    declare(routing, "x", kind)
    routing.bind("x", "q", "queue", "7", {}, None)
    assert finish(broker) == 3
    assert {each.key for each in bindings_to(vhost, vhost.queues["q"])} == {"k", "7"}
    assert (routing.bindings.count, reached(vhost, "x", "7")) == (2, ["q"])


def test_exchange_that_loses_its_last_binding_is_deleted_at_once(broker: Broker, vhost: VirtualHost) -> None:
    routing = vhost.routing
    declare(routing, "x", auto_delete=True)
    declare(routing, "y", "fanout", auto_delete=True)
    queue(vhost, "q")
    bind(vhost, "x", "q")
    routing.bind("y", "x", "exchange", "", {}, None)
    vhost.delete_queue(vhost.queues["q"])
    assert not routing.exchanges.keys() & {"x", "y"}
    finish(broker)
    assert routing.bindings.count == 0


def test_both_ends_of_many_bindings_can_be_deleted(broker: Broker, vhost: VirtualHost) -> None:
    routing = vhost.routing
    declare(routing, "x", "direct")
    queue(vhost, "q")
    bind(vhost, "x", "q")
    exchange, target = routing.exchange("x"), vhost.queues["q"]
    vhost.delete_queue(target)
    broker.do_work(AT_ONCE)
    assert not exchange.in_use
    routing.delete("x", if_unused=True)
    finish(broker)
    assert (routing.bindings.count, exchange.bindings) == (0, {})
    assert not list(routing.bindings.between(exchange, target))


def test_deletion_of_few_bindings_leaves_no_work(broker: Broker, vhost: VirtualHost) -> None:
    queue(vhost, "q")
    bind(vhost, "amq.topic", "q", count=AT_ONCE)
    vhost.delete_queue(vhost.queues["q"])
    assert (broker.busy, vhost.routing.exchange("amq.topic").bindings) == (False, {})


def test_a_virtual_host_with_many_bindings_is_deleted(broker: Broker) -> None:
    vhost = broker.add_vhost("other")
    queue(vhost, "q")
    bind(vhost, "amq.topic", "q")
    broker.delete_vhost("other")
    finish(broker)
    assert vhost.routing.bindings.count == 0


@pytest.mark.parametrize("again", [True, False], ids=["declared again", "gone"])
@pytest.mark.parametrize("what", ["queue", "exchange"])
def test_a_kill_while_bindings_are_removed_brings_none_back(tmp_path: Path, what: str, again: bool) -> None:
    run = Run(tmp_path / "log")
    declare(run.vhost.routing, "x")
    run.declare("q")
    bind(run.vhost, "x", "q")
    if what == "queue":
        run.vhost.delete_queue(run.vhost.queues["q"])
    else:
        run.vhost.routing.delete("x", if_unused=False)
    if again:
        declare(run.vhost.routing, "x")
        run.declare("q")
        run.vhost.routing.bind("x", "q", "queue", "new", {}, None)
    run.turn()
    run.kill()

    expected = ["new"] if again else []
    for _ in range(2):
        restored = Run(tmp_path / "log")
        replay = restored.storage.recovered.replay
        assert (restored.problems, restored.reports) == ([], [])
        found = [
            each for source in restored.vhost.routing.exchanges.values() for each in source.bindings.values()
        ]
        assert [each.key for each in found] == expected
        restored.turn()
        restored.kill()
    assert [item.key for item in replay.items.values() if isinstance(item, StoredBinding)] == expected
