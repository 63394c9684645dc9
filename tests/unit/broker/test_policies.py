"""Policies set what a queue's arguments leave open, for existing queues too; limits take the lowest value."""

from __future__ import annotations

from typing import Any

import pytest
from pamqp import commands

from msctl.broker.core.arguments import QueueOptions
from msctl.broker.core.patterns import PatternError
from msctl.broker.core.policies import PolicyError, make_policy, queue_options
from msctl.broker.core.queues import DROPPED_PER_STEP
from msctl.broker.core.vhost import APPLIED_AT_ONCE
from tests.support.clock import FakeClock
from tests.unit.broker.client import Client, make_broker


def connect(clock: FakeClock | None = None) -> Client:
    client = Client(make_broker(clock, memory_limit=10**9))
    client.open(1)
    return client


def set_policy(client: Client, definition: dict[str, Any], *, operator: bool = False, **options: Any) -> None:
    policy = make_policy(
        options.pop("name", "p"), options.pop("pattern", "^q"), definition, operator=operator, **options
    )
    client.broker.vhosts["/"].set_policy(policy, operator=operator)


def test_policy_limits_an_existing_queue_and_lets_go_of_it() -> None:
    client = connect()
    client.queue("q")
    for number in range(5):
        client.publish(b"%d" % number, "q")
    set_policy(client, {"max-length": 2})
    queue = client.broker.vhosts["/"].queues["q"]
    assert queue.ready.count == 2
    client.broker.vhosts["/"].clear_policy("p")
    client.publish(b"5", "q")
    assert queue.ready.count == 3
    assert client.broker.memory.messages == 3


def test_policy_applies_to_a_queue_that_is_declared_later() -> None:
    client = connect()
    set_policy(client, {"dead-letter-exchange": "", "dead-letter-routing-key": "other"})
    client.queue("other")
    client.queue("q")
    client.publish(b"x", "q")
    client.call(commands.Basic.Get(queue="q"), commands.Basic.GetOk)
    client.send(commands.Basic.Reject(delivery_tag=1, requeue=False))
    assert client.broker.vhosts["/"].queues["other"].ready.count == 1


def test_many_messages_beyond_a_new_limit_are_dropped_in_steps() -> None:
    clock = FakeClock()
    client = connect(clock)
    client.queue("q")
    for _ in range(3 * DROPPED_PER_STEP):
        client.publish(b"x", "q")
    set_policy(client, {"max-length": 1})
    queue = client.broker.vhosts["/"].queues["q"]
    assert queue.ready.count == 2 * DROPPED_PER_STEP
    for _ in range(3):
        client.broker.tick()
    assert queue.ready.count == 1


def test_policy_reaches_many_queues_in_steps() -> None:
    client = connect()
    vhost = client.broker.vhosts["/"]
    for number in range(2 * APPLIED_AT_ONCE + 10):
        vhost.declare_queue(
            f"q{number}", None, durable=True, exclusive=False, auto_delete=False, arguments={}
        )

    def limited() -> int:
        return sum(queue.options.max_length == 1 for queue in vhost.queues.values())

    set_policy(client, {"max-length": 1})
    assert limited() == APPLIED_AT_ONCE - len(vhost.routing.exchanges)
    vhost.delete_queue(vhost.queues["q0"])
    for _ in range(6):
        client.broker.do_work(100)
    assert limited() == len(vhost.queues)


def test_queue_without_consumers_expires_by_policy() -> None:
    clock = FakeClock()
    client = connect(clock)
    client.queue("q")
    clock.set(60.0)
    set_policy(client, {"expires": 1000})
    client.broker.tick()
    assert "q" in client.broker.vhosts["/"].queues
    clock.set(61.1)
    client.broker.tick()
    assert "q" not in client.broker.vhosts["/"].queues


def test_highest_priority_applies_alone() -> None:
    client = connect()
    set_policy(client, {"max-length": 5, "message-ttl": 1}, name="low")
    set_policy(client, {"max-length": 9}, name="high", priority=3)
    client.queue("q")
    options = client.broker.vhosts["/"].queues["q"].options
    assert (options.max_length, options.message_ttl) == (9, None)


def test_lowest_limit_of_arguments_policy_and_operator_policy_holds() -> None:
    client = connect()
    set_policy(client, {"max-length": 5, "message-ttl": 100})
    set_policy(client, {"max-length": 7, "message-ttl": 50}, operator=True)
    client.call(
        commands.Queue.Declare(queue="q", arguments={"x-max-length": 6, "x-message-ttl": 200}),
        commands.Queue.DeclareOk,
    )
    options = client.broker.vhosts["/"].queues["q"].options
    assert (options.max_length, options.message_ttl) == (5, 50)


def test_argument_wins_where_there_is_no_lower_one() -> None:
    declared = QueueOptions(dead_letter_exchange="mine", overflow="drop-head")
    definition = {
        "dead-letter-exchange": "theirs",
        "overflow": "reject-publish",
        "dead-letter-routing-key": "k",
    }
    options = queue_options(declared, {b"x-overflow": ("S", b"drop-head")}, definition)
    assert (options.dead_letter_exchange, options.overflow) == ("mine", "drop-head")
    assert options.dead_letter_key == "k"
    assert queue_options(declared, {}, definition).overflow == "reject-publish"


@pytest.mark.parametrize(("arguments", "limit"), [({}, None), ({"x-queue-type": "quorum"}, 3)])
def test_policy_with_a_key_of_another_queue_type_does_not_apply(
    arguments: dict[str, Any], limit: int | None
) -> None:
    client = connect()
    set_policy(client, {"delivery-limit": 3, "max-length": 9})
    client.call(
        commands.Queue.Declare(queue="q", durable=True, arguments=arguments), commands.Queue.DeclareOk
    )
    options = client.broker.vhosts["/"].queues["q"].options
    assert (options.delivery_limit, options.max_length) == (limit, 9 if limit else None)


def test_alternate_exchange_by_policy_takes_unroutable_messages() -> None:
    client = connect()
    client.call(commands.Exchange.Declare(exchange="qx"), commands.Exchange.DeclareOk)
    client.queue("q")
    client.call(commands.Queue.Bind(queue="q", exchange="amq.fanout"), commands.Queue.BindOk)
    client.publish(b"lost", "nowhere", exchange="qx")
    set_policy(client, {"alternate-exchange": "amq.fanout"}, apply_to="exchanges")
    client.publish(b"found", "nowhere", exchange="qx")
    assert client.broker.vhosts["/"].queues["q"].ready.count == 1


def test_virtual_hosts_have_policies_of_their_own() -> None:
    client = connect()
    other = client.broker.add_vhost("other")
    set_policy(client, {"max-length": 1})
    queue = other.declare_queue("q", None, durable=True, exclusive=False, auto_delete=False, arguments={})
    assert queue.options.max_length is None


@pytest.mark.parametrize(
    ("definition", "text", "key"),
    [
        ({}, "no policy provided", None),
        ([], "definition must be a dictionary: []", None),
        ({"message-ttl": -1}, "-1 is not a valid message TTL", "message-ttl"),
        ({"message-ttl": True}, "true is not a valid message TTL", "message-ttl"),
        ({"expires": 0}, "0 is not a valid queue expiry", "expires"),
        ({"overflow": "never"}, '<<"never">> is not a valid overflow value', "overflow"),
        ({"foo": 1}, '[{<<"foo">>,1}] are not recognised policy settings', "foo"),
        ({"dead-letter-exchange": 5}, "5 is not a valid dead letter exchange name", "dead-letter-exchange"),
    ],
)
def test_bad_definition_says_why(definition: Any, text: str, key: str | None) -> None:
    with pytest.raises(PolicyError) as failed:
        make_policy("p", ".*", definition)
    assert (str(failed.value), failed.value.key) == (text, key)


def test_operator_policy_takes_limits_only() -> None:
    with pytest.raises(PolicyError, match="not recognised"):
        make_policy("p", ".*", {"dead-letter-exchange": "x"}, operator=True)


def test_bad_pattern_is_refused() -> None:
    with pytest.raises(PatternError):
        make_policy("p", "(", {"max-length": 1})
