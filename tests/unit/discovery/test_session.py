"""A stack and its registry: announced and withdrawn, found and kept, lost and tried again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace

from msctl.discovery.announcer import WITHDRAW_S
from msctl.discovery.backend import SessionLostError, Watcher
from msctl.discovery.discovery import Discovery
from msctl.discovery.record import Record
from msctl.discovery.registry import Registry
from msctl.discovery.registry_http import RegistryError
from msctl.model.broker_spec import BrokerSpec
from msctl.model.endpoint import Endpoint
from msctl.model.project import DiscoverySpec, Project
from msctl.model.registry_url import parse_registry_url
from msctl.model.service_spec import ServiceSpec
from msctl.model.snapshots import State
from tests.support.clock import FakeClock, settle

URL = "etcd://127.0.0.1"
TTL = 9.0
USERS = ServiceSpec("users", command=("users",), port=8081, discover=True)
ORDERS = ServiceSpec("orders", discover=True)
AT = DiscoverySpec(URL, ttl=TTL, advertise="127.0.0.1")
SHOP = Project("shop", None, "", (USERS, ORDERS), None, BrokerSpec(), discovery=AT)
MINE = Endpoint("users", "users-1", base_url="http://127.0.0.1:8081")
THEIRS = Record("users", "users-1", "10.0.0.2", 8081, "b")


class Shelf:
    """A registry in memory, of which a test decides how it fails."""

    def __init__(self) -> None:
        self.held: dict[str, Record] = {}
        self.failure: Exception | None = None
        self.slow: asyncio.Event | None = None
        self.opened = 0
        self.beats = 0
        self.watching: frozenset[str] = frozenset()
        self._watcher: Watcher | None = None
        self._broken = asyncio.Event()

    def fail(self, error: Exception) -> None:
        """Fail now, and at every call until `mend`."""
        self.failure = error
        self._broken.set()

    def mend(self) -> None:
        self.failure = None
        self._broken.clear()

    def put(self, *records: Record) -> None:
        for record in records:
            self.held[record.key] = record
            if self._watcher is not None:
                self._watcher.put(record.key, lambda record=record: record)  # type: ignore[misc]

    def remove(self, record: Record) -> None:
        del self.held[record.key]
        if self._watcher is not None:
            self._watcher.removed(record.key)

    @property
    def addresses(self) -> list[str]:
        return sorted(self.held)

    async def open(self) -> str | None:
        self._check()
        self.opened += 1
        return None

    async def keep(self) -> None:
        self._check()
        self.beats += 1

    async def register(self, record: Record) -> None:
        self._check()
        self.held[record.key] = record

    async def withdraw(self, record: Record) -> None:
        if self.slow is not None:
            await self.slow.wait()
        self._check()
        self.held.pop(record.key, None)

    async def watch(self, services: Collection[str], watcher: Watcher) -> None:
        self._check()
        self.watching = frozenset(services)
        self._watcher = watcher
        found = {key: (lambda record=record: record) for key, record in self.held.items()}
        watcher.listed(None, found, resumed=True)
        await self._broken.wait()
        self._check()

    async def leave(self) -> None:
        self._check()
        self.held.clear()

    async def close(self) -> None:
        """Nothing is open."""

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure


class Rig:
    def __init__(self, project: Project = SHOP) -> None:
        self.clock, self.registry, self.shelf = FakeClock(), Registry(), Shelf()
        self.discovery = Discovery(
            project,
            parse_registry_url(URL),
            self.shelf,
            self.registry,
            stack="a",
            clock=self.clock,
            chance=lambda: 0.5,
        )

    @property
    def state(self) -> State:
        return self.discovery.snapshot().state

    def urls(self, service: str = "users") -> list[str | None]:
        return [endpoint.base_url for endpoint in self.registry.endpoints(service)]


@asynccontextmanager
async def running(
    project: Project = SHOP, prepare: Callable[[Rig], None] | None = None
) -> AsyncIterator[Rig]:
    rig = Rig(project)
    if prepare is not None:
        prepare(rig)
    rig.discovery.start()
    try:
        await until(lambda: rig.discovery.asked)
        yield rig
    finally:
        rig.shelf.slow = None
        await rig.discovery.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


async def test_a_ready_instance_is_announced_and_one_elsewhere_takes_requests_beside_it() -> None:
    async with running() as rig:
        rig.registry.announce(MINE)
        rig.shelf.put(THEIRS)
        await settle()
        assert rig.shelf.addresses == ["users/10.0.0.2:8081", "users/127.0.0.1:8081"]
        assert rig.urls() == [MINE.base_url, "http://10.0.0.2:8081"]
        snapshot = rig.discovery.snapshot()
        assert (snapshot.state, snapshot.announced, snapshot.found) == (State.READY, ("users-1",), 1)
        rig.registry.withdraw("users", "users-1", "is stopped")
        await settle()
        assert rig.shelf.addresses == ["users/10.0.0.2:8081"]
        assert rig.urls() == ["http://10.0.0.2:8081"]
        rig.shelf.remove(THEIRS)
        assert rig.urls() == []


async def test_an_instance_stops_only_after_the_registry_has_forgotten_it() -> None:
    async with running() as rig:
        rig.registry.announce(MINE)
        await settle()
        rig.shelf.slow = asyncio.Event()
        rig.registry.withdraw("users", "users-1", "is stopping")
        stopping = asyncio.create_task(rig.registry.drained("users", "users-1"))
        await rig.clock.advance(WITHDRAW_S / 2)
        assert not stopping.done()
        rig.shelf.slow.set()
        await rig.clock.advance(WITHDRAW_S / 4)
        assert stopping.done()
        assert rig.shelf.held == {}


async def test_a_registry_that_hangs_holds_the_stop_up_for_a_bounded_time() -> None:
    async with running() as rig:
        rig.registry.announce(MINE)
        await settle()
        rig.shelf.slow = asyncio.Event()
        leaving = asyncio.create_task(rig.discovery.leave())
        await rig.clock.advance(WITHDRAW_S + 0.1)
        assert leaving.done()


async def test_the_last_known_instances_stay_while_the_registry_is_away() -> None:
    async with running() as rig:
        rig.shelf.put(THEIRS)
        rig.shelf.fail(RegistryError("answered 500"))
        await rig.clock.advance(60)
        snapshot = rig.discovery.snapshot()
        assert (snapshot.state, snapshot.found) == (State.BACKOFF, 1)
        assert "answered 500" in snapshot.reason
        assert rig.urls() == ["http://10.0.0.2:8081"]
        rig.shelf.mend()
        await rig.clock.advance(20)
        assert (rig.state, rig.discovery.snapshot().reason) == (State.READY, "")
        assert rig.urls() == ["http://10.0.0.2:8081"]


async def test_the_pauses_between_attempts_grow() -> None:
    async with running(prepare=lambda rig: rig.shelf.fail(RegistryError("cannot be reached"))) as rig:
        attempts = 0

        async def open_() -> str | None:
            nonlocal attempts
            attempts += 1
            raise RegistryError("cannot be reached")

        rig.shelf.open = open_  # type: ignore[method-assign]
        for seconds, most in ((1, 2), (6, 4), (60, 9)):
            before = attempts
            await rig.clock.advance(seconds)
            assert 1 <= attempts - before <= most


async def test_a_registry_that_is_down_at_the_start_is_said_and_found_later() -> None:
    async with running(prepare=lambda rig: rig.shelf.fail(RegistryError("cannot be reached"))) as rig:
        assert rig.state is State.BACKOFF
        assert "cannot be reached" in (rig.discovery.absence("orders") or "")
        rig.registry.announce(MINE)
        rig.shelf.mend()
        await rig.clock.advance(2)
        assert rig.shelf.addresses == ["users/127.0.0.1:8081"]
        assert "no instance is registered" in (rig.discovery.absence("orders") or "")


async def test_a_lost_lease_is_noticed_and_everything_registered_again() -> None:
    async with running() as rig:
        rig.registry.announce(MINE)
        await settle()
        rig.shelf.held.clear()
        rig.shelf.failure = SessionLostError("its lease has expired")
        await rig.clock.advance(TTL / 3)
        rig.shelf.mend()
        await rig.clock.advance(1)
        assert rig.shelf.addresses == ["users/127.0.0.1:8081"]
        assert rig.state is State.READY


async def test_a_registry_that_came_back_empty_costs_no_instance_that_registers_again() -> None:
    async with running() as rig:
        rig.shelf.put(THEIRS)
        rig.shelf.held.clear()
        rig.shelf.fail(RegistryError("ended the watch"))
        await settle()
        rig.shelf.mend()
        await rig.clock.advance(TTL / 2)
        assert rig.urls() == ["http://10.0.0.2:8081"]
        rig.shelf.put(THEIRS)
        await rig.clock.advance(3 * TTL)
        assert rig.urls() == ["http://10.0.0.2:8081"]


async def test_what_a_new_session_does_not_list_is_gone_after_a_ttl() -> None:
    async with running() as rig:
        rig.shelf.put(THEIRS)
        rig.shelf.held.clear()
        rig.shelf.fail(RegistryError("ended the watch"))
        await settle()
        rig.shelf.mend()
        await rig.clock.advance(2 * TTL)
        assert rig.urls() == []


async def test_a_defect_of_a_backend_ends_nothing() -> None:
    async with running() as rig:
        rig.shelf.put(THEIRS)
        rig.shelf.fail(KeyError("kvs"))
        await settle()
        assert "KeyError" in rig.discovery.snapshot().reason
        rig.shelf.mend()
        await rig.clock.advance(2)
        assert rig.state is State.READY


async def test_a_stack_is_heard_of_several_times_in_a_ttl() -> None:
    async with running() as rig:
        await rig.clock.advance(10 * TTL)
        assert rig.shelf.beats >= 25


async def test_an_edit_is_applied_to_what_is_announced_and_what_is_found() -> None:
    async with running() as rig:
        rig.registry.announce(MINE)
        rig.shelf.put(THEIRS)
        await settle()
        alone = replace(USERS, announce=False, discover=False)
        rig.discovery.reconfigure(replace(SHOP, services=(alone, ORDERS)))
        await rig.clock.advance(1)
        assert rig.shelf.addresses == ["users/10.0.0.2:8081"]
        assert rig.urls() == [MINE.base_url]
        assert rig.shelf.watching == {"orders"}


async def test_a_changed_record_is_another_life_of_its_instance_and_an_unchanged_one_is_not() -> None:
    async with running() as rig:
        rig.shelf.put(THEIRS)
        before = rig.registry.endpoints("users")
        rig.shelf.put(THEIRS)
        assert rig.registry.endpoints("users") is before
        rig.shelf.put(replace(THEIRS, weight=5))
        (after,) = rig.registry.endpoints("users")
        assert after.weight == 5.0


async def test_the_advertised_address_is_that_of_the_interface_that_reaches_the_registry() -> None:
    async with running(replace(SHOP, discovery=replace(AT, advertise=None))) as rig:
        assert rig.discovery.snapshot().advertise == "127.0.0.1"
    told = replace(SHOP, discovery=replace(AT, advertise="host-a.internal"))
    async with running(told) as rig:
        rig.registry.announce(MINE)
        await settle()
        assert rig.shelf.held == {}
        assert "users is not announced" in rig.discovery.snapshot().reason


async def test_a_service_that_is_stopped_here_sends_nothing_to_its_instances() -> None:
    async with running() as rig:
        rig.shelf.put(replace(THEIRS, service="orders", instance="orders-1"))
        assert rig.urls("orders") == ["http://10.0.0.2:8081"]
        rig.discovery.use("orders", wanted=False)
        assert rig.urls("orders") == []
        rig.discovery.use("orders", wanted=True)
        assert rig.urls("orders") == ["http://10.0.0.2:8081"]


async def test_the_loopback_address_of_another_machine_takes_no_requests() -> None:
    elsewhere = replace(SHOP, discovery=replace(AT, advertise="10.0.0.1"))
    wrong = replace(THEIRS, host="127.0.0.1")
    async with running(elsewhere) as rig:
        rig.shelf.put(wrong, replace(wrong, host="::1"), THEIRS)
        assert rig.urls() == ["http://10.0.0.2:8081"]
    async with running() as rig:
        rig.shelf.put(wrong)
        assert rig.urls() == ["http://127.0.0.1:8081"]


async def test_a_stack_that_leaves_is_withdrawn_and_not_announced_again() -> None:
    async with running() as rig:
        rig.registry.announce(MINE)
        await settle()
        leaving = asyncio.create_task(rig.discovery.leave())
        await rig.clock.advance(WITHDRAW_S / 2)
        assert leaving.done()
        rig.registry.announce(replace(MINE, instance="users-2", base_url="http://127.0.0.1:8082"))
        await settle()
        assert rig.shelf.held == {}


async def test_a_service_that_is_not_to_be_announced_any_more_is_withdrawn_in_the_same_session() -> None:
    async with running() as rig:
        rig.registry.announce(MINE)
        await settle()
        rig.discovery.reconfigure(replace(SHOP, services=(replace(USERS, announce=False), ORDERS)))
        await settle()
        assert (rig.shelf.held, rig.shelf.opened) == ({}, 1)


async def test_the_instances_of_one_service_are_not_those_of_another() -> None:
    async with running() as rig:
        rig.shelf.put(THEIRS, replace(THEIRS, service="orders", port=9))
        assert rig.discovery.records("users") == (THEIRS,)
        assert rig.discovery.absence("users") is None
        rig.shelf.remove(THEIRS)
        assert rig.discovery.records("users") == ()
        assert rig.discovery.absence("users") is not None
