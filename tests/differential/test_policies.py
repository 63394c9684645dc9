"""Policies and operator policies have the same effect on both brokers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pamqp import commands

from tests.support.amqp_probe import Channel, ChannelClosed
from tests.support.broker import Broker, Connect
from tests.support.rabbitmq import unique


class Place:
    """A virtual host of its own, with a channel in confirm mode."""

    def __init__(self, broker: Broker, name: str, channel: Channel) -> None:
        self.name = name
        self.channel = channel
        self._broker = broker

    async def policy(
        self,
        definition: dict[str, Any],
        *,
        name: str = "p",
        operator: bool = False,
        apply_to: str = "queues",
        priority: int = 0,
    ) -> str:
        fields = {"pattern": "^q", "apply-to": apply_to, "priority": priority, "definition": definition}
        entry = {"vhost": self.name, "name": name}
        if operator:
            parameter = {**entry, "component": "operator_policy", "value": fields}
            return await self._broker.operator.load({"parameters": [parameter]})
        return await self._broker.operator.load({"policies": [{**entry, **fields}]})

    async def clear(self, name: str = "p") -> None:
        await self._broker.operator.delete("policies", self.name, name)

    async def declare(self, name: str = "q", **arguments: Any) -> None:
        declared = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
        await self.channel.rpc(
            commands.Queue.Declare(queue=name, durable=True, arguments=declared), commands.Queue.DeclareOk
        )

    async def fill(self, count: int, queue: str = "q") -> None:
        for number in range(count):
            self.channel.publish(b"%d" % number, key=queue)
        await self.ready(queue)

    async def ready(self, queue: str = "q") -> int:
        declared = await self.channel.rpc(
            commands.Queue.Declare(queue=queue, passive=True), commands.Queue.DeclareOk
        )
        return declared.message_count or 0

    async def settles_at(self, count: int, queue: str = "q") -> None:
        """The effect of a policy reaches a queue of RabbitMQ a moment after it is set."""
        async with asyncio.timeout(60):
            while await self.ready(queue) != count:
                await asyncio.sleep(0.02)


@pytest.fixture
async def place(broker: Broker, connect: Connect) -> AsyncIterator[Place]:
    name = unique("v")
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    assert not await broker.operator.load(
        {"vhosts": [{"name": name}], "permissions": [{"user": "guest", "vhost": name, **everything}]}
    )
    probe = await connect(vhost=name)
    yield Place(broker, name, await probe.channel())
    await probe.close()
    await broker.operator.delete("vhosts", name)


async def test_length_limit_drops_at_once_and_ends_with_the_policy(place: Place) -> None:
    await place.declare()
    await place.fill(5)
    await place.policy({"max-length": 2})
    await place.settles_at(2)
    await place.clear()
    await place.settles_at(2)
    await place.fill(3)
    await place.settles_at(5)


async def test_lower_limit_of_policy_and_operator_policy_holds(place: Place) -> None:
    await place.policy({"max-length": 4})
    await place.policy({"max-length": 3}, operator=True)
    await place.declare()
    await place.fill(9)
    await place.settles_at(3)


@pytest.mark.parametrize(("argument", "policy"), [(2, 4), (4, 2)])
async def test_lower_limit_of_argument_and_policy_holds(place: Place, argument: int, policy: int) -> None:
    await place.policy({"max-length": policy})
    await place.declare(max_length=argument)
    await place.fill(9)
    await place.settles_at(2)


async def test_highest_priority_applies_alone(place: Place) -> None:
    await place.policy({"max-length": 1}, name="low", priority=1)
    await place.policy({"max-length": 3}, name="high", priority=5)
    await place.declare()
    await place.fill(9)
    await place.settles_at(3)


async def test_policy_of_exchanges_does_not_apply_to_queues(place: Place) -> None:
    await place.policy({"max-length": 1}, apply_to="exchanges")
    await place.declare()
    await place.fill(3)
    await place.settles_at(3)


@pytest.mark.parametrize(("kind", "count"), [("classic", 5), ("quorum", 2)])
async def test_policy_with_a_key_of_another_type_does_not_apply(place: Place, kind: str, count: int) -> None:
    await place.policy({"delivery-limit": 3, "max-length": 2})
    await place.declare(queue_type=kind)
    await place.fill(5)
    await place.settles_at(count)


async def test_delivery_limit_of_a_policy_holds(place: Place) -> None:
    await place.policy({"delivery-limit": 1})
    await place.declare(queue_type="quorum")
    await place.fill(1)
    await place.settles_at(1)
    for _ in range(2):
        message = await place.channel.get("q")
        assert message is not None
        place.channel.send(commands.Basic.Reject(delivery_tag=message.tag, requeue=True))
    await place.settles_at(0)


async def test_dead_letters_follow_a_policy_and_the_argument_wins(place: Place) -> None:
    await place.declare("dead")
    await place.declare("mine")
    await place.policy({"dead-letter-exchange": "", "dead-letter-routing-key": "dead", "message-ttl": 1})
    await place.declare("q")
    await place.declare("q2", dead_letter_exchange="", dead_letter_routing_key="mine")
    await place.fill(1, "q")
    await place.fill(2, "q2")
    await place.settles_at(1, "dead")
    await place.settles_at(2, "mine")


async def test_time_to_live_of_a_policy_holds_for_later_messages(place: Place) -> None:
    await place.declare()
    await place.fill(1)
    await place.policy({"message-ttl": 1})
    await place.fill(1)
    await place.settles_at(2)  # the first one does not expire, and hides the second one
    message = await place.channel.get("q", no_ack=True)
    assert message is not None
    assert message.body == b"0"
    await place.settles_at(0)


async def test_overflow_of_a_policy_refuses_publishes(place: Place) -> None:
    await place.policy({"max-length": 1, "overflow": "reject-publish"})
    await place.declare()
    await place.fill(4)
    await place.settles_at(1)
    message = await place.channel.get("q")
    assert message is not None
    assert message.body == b"0"


async def test_unused_queue_expires_by_policy(place: Place) -> None:
    await place.declare()
    await place.policy({"expires": 30})
    with pytest.raises(ChannelClosed) as closed:
        async with asyncio.timeout(60):
            while True:
                await asyncio.sleep(0.2)  # longer than it lives unused: a look at it is a use
                await place.ready("q")
    assert closed.value.code == 404


async def test_alternate_exchange_of_a_policy_takes_what_is_unroutable(place: Place) -> None:
    await place.declare()
    await place.channel.rpc(commands.Exchange.Declare(exchange="qx"), commands.Exchange.DeclareOk)
    await place.channel.rpc(commands.Queue.Bind(queue="q", exchange="amq.fanout"), commands.Queue.BindOk)
    await place.policy({"alternate-exchange": "amq.fanout"}, apply_to="exchanges")
    place.channel.publish(b"x", exchange="qx", key="nowhere")
    await place.settles_at(1)


@pytest.mark.parametrize(
    "definition",
    [
        {"message-ttl": -1},
        {"expires": 0},
        {"max-length": "5"},
        {"overflow": "never"},
        {"queue-mode": "eager"},
        {"ha-mode": "some"},
        {"dead-letter-exchange": 5},
        {"unknown": 1},
        {},
    ],
)
async def test_bad_definition_is_refused(place: Place, definition: dict[str, Any]) -> None:
    assert await place.policy(definition)


@pytest.mark.parametrize(
    "definition",
    [
        {"queue-mode": "lazy"},
        {"ha-mode": "all"},
        {"ha-mode": "exactly", "ha-params": 2, "ha-sync-mode": "automatic"},
        {"queue-version": 2},
        {"dead-letter-strategy": "at-least-once"},
        {"max-in-memory-length": 5},
        {"queue-master-locator": "min-masters"},
    ],
)
async def test_definition_without_effect_here_is_accepted(place: Place, definition: dict[str, Any]) -> None:
    assert not await place.policy(definition)


@pytest.mark.parametrize("definition", [{"dead-letter-exchange": "x"}, {"overflow": "drop-head"}])
async def test_operator_policy_takes_limits_only(place: Place, definition: dict[str, Any]) -> None:
    assert await place.policy(definition, operator=True)
