"""Consul's API as it is documented, by a server of the tests' own (tests/support/consul.py)."""

from __future__ import annotations

import asyncio

from tests.support.consul import consul
from tests.support.waiting import until
from tests.unit.discovery.harness import MINE, stack

OTHER = "10.0.0.2"


async def test_an_instance_is_registered_with_a_ttl_check_and_found_by_others() -> None:
    async with (
        consul() as agent,
        stack(agent.url, "a") as one,
        stack(agent.url, "b", advertise=OTHER) as two,
    ):
        one.registry.announce(MINE)
        await until(lambda: two.urls() == ["http://10.0.0.5:8081"])
        (held,) = agent.services.values()
        assert held | {"Meta": {}, "ttl": None} == {
            "ID": "msctl-shop-users-10.0.0.5:8081",
            "Name": "users",
            "Address": "10.0.0.5",
            "Port": 8081,
            "Tags": ["shop"],
            "Meta": {},
            "Weights": {"Passing": 7, "Warning": 1},
            "Check": {"TTL": "2s", "Status": "passing", "DeregisterCriticalServiceAfter": "1m"},
            "ttl": None,
        }
        (found,) = two.registry.endpoints("users")
        assert (found.instance, found.weight, found.origin) == ("users-1@10.0.0.5:8081", 7.0, "consul")
        assert one.urls() == [MINE.base_url]
        one.registry.withdraw("users", "users-1", "is stopping")
        await until(lambda: two.urls() == [])
        assert agent.services == {}


async def test_a_check_is_passed_before_its_ttl_ends() -> None:
    async with consul() as agent, stack(agent.url, ttl=2) as one:
        one.registry.announce(MINE)
        await until(lambda: agent.services)
        (name,) = agent.services
        first = agent._passed[name]
        await until(lambda: agent._passed[name] > first)
        assert agent._passed[name] - first < 2


async def test_an_agent_that_has_forgotten_everything_is_told_again() -> None:
    async with consul() as agent, stack(agent.url, "a") as one, stack(agent.url, "b", advertise=OTHER) as two:
        one.registry.announce(MINE)
        await until(two.urls)
        await agent.forget()
        await until(lambda: agent.services)
        await until(lambda: two.urls() == ["http://10.0.0.5:8081"])
        assert one.state == two.state == "ready"


async def test_services_that_others_registered_are_used_if_they_have_the_namespace_as_tag() -> None:
    async with consul() as agent, stack(agent.url) as one:
        await agent.add("users", "10.0.0.8", 80, Tags=["shop", "v1"])
        await agent.add("users", "10.0.0.9", 80, Tags=["another"])
        await agent.add("users", "", 81, Tags=["shop"])
        await agent.add("users", "fd00::8", 82, Tags=["shop"], Weights={"Passing": 3})
        await agent.add("users", "10.0.0.8", 0, Tags=["shop"])
        await agent.add("orders", "10.0.0.8", 83, Tags=["shop"])
        await until(lambda: len(one.urls()) == 3 and one.urls("orders"))
        assert one.urls() == ["http://10.0.0.5:81", "http://10.0.0.8:80", "http://[fd00::8]:82"]
        assert one.state == "ready"


async def test_a_token_is_sent_and_a_refusal_is_said() -> None:
    async with consul("s3cret") as agent:
        async with stack(agent.url, token="s3cret") as one:
            one.registry.announce(MINE)
            await until(lambda: agent.services)
        async with stack(agent.url, token="wrong") as one:
            await until(lambda: "403: ACL not found" in one.reason)
            assert "wrong" not in one.reason


async def test_a_cluster_without_a_leader_is_away() -> None:
    async with consul() as agent, stack(agent.url) as one:
        await until(lambda: one.state == "ready")
        agent.leader = ""
        await until(lambda: "no leader" in one.reason)
        agent.leader = "10.0.0.5:8300"
        await until(lambda: one.state == "ready")


async def test_everything_is_deregistered_when_the_stack_stops() -> None:
    async with consul() as agent, stack(agent.url) as one:
        one.registry.announce(MINE)
        await until(lambda: agent.services)
        await one.discovery.leave()
        assert agent.services == {}


async def test_an_instance_whose_registration_is_not_answered_yet_is_deregistered_too() -> None:
    async with consul() as agent, stack(agent.url) as one:
        agent.answers.clear()
        one.registry.announce(MINE)
        await until(lambda: agent.services)
        leaving = asyncio.create_task(one.discovery.leave())
        await asyncio.sleep(0)
        agent.answers.set()
        await leaving
        assert agent.services == {}


async def test_a_stop_in_the_middle_of_a_registration_deregisters() -> None:
    async with consul() as agent:
        async with stack(agent.url) as one:
            agent.answers.clear()
            one.registry.announce(MINE)
            await until(lambda: agent.services)
        assert agent.services == {}
        agent.answers.set()
