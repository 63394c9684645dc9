"""Our own gateway, broker, log and clients under every fault: they hold, and planted defects are found.

`make sim` runs thousands of seeds: MSCTL_TEST_SEEDS.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import hdrs

from msctl.amqp import ReconnectingConsumer
from msctl.amqp.connection import Connection
from msctl.amqp.consumer import Consumer
from msctl.broker.core.messages import Taken
from msctl.broker.core.queues import Queue
from msctl.broker.session.confirms import Confirms
from msctl.broker.storage.storage import Storage
from msctl.gateway import proxy
from msctl.gateway.policies.breaker import Breaker
from msctl.gateway.upstream import remote
from msctl.model.project import Project
from msctl.model.service_policies import RestartPolicy
from msctl.simulation import world
from msctl.simulation.faults import FaultKind
from tests.unit.simulation.own_system import first_failure, own_project, run_own

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.unmeasured,
]
SEEDS = int(os.environ.get("MSCTL_TEST_SEEDS", "100"))
BLOCKS = 10
"""Parts of the seeds, which workers share."""


@pytest.fixture(params=["process", "disk"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Project:
    return own_project(tmp_path, request.param)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_whatever_fails_no_job_is_lost_and_the_gateway_serves_again(project: Project, block: int) -> None:
    # Odd seeds with a log that is safe once written, even ones with one that is synchronized.
    parity = 2 if project.broker.durable.value == "disk" else 1
    seeds = range(block * 2 + parity, SEEDS + 1, BLOCKS * 2)
    found = first_failure(lambda seed: run_own(project, seed), seeds)
    assert found is None, f"seed {found.seed}: {found.failure}\n" + "\n".join(map(str, found.faults))


def lose_requeued(monkeypatch: pytest.MonkeyPatch) -> None:
    def requeue(self: Queue, taken: list[Taken]) -> None:
        for _, message in taken:
            self.unacked -= 1
            self._forget(message)

    monkeypatch.setattr(Queue, "requeue", requeue)


def confirm_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def send(self: Confirms, frame: bytes) -> None:
        self._outbox.send(frame)

    monkeypatch.setattr(Confirms, "send_when_stored", send)


def forget_to_synchronize(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(self: Storage) -> bool:
        more = self.journal.write()
        self.journal.durable = self.journal.written
        self._changed()
        return more

    monkeypatch.setattr(Storage, "_write", write)


def retry_post(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (proxy, remote):
        monkeypatch.setattr(module, "IDEMPOTENT", frozenset({*module.IDEMPOTENT, hdrs.METH_POST}))


def never_close_the_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Breaker, "succeeded", lambda _self: None)


def acknowledge_before_handling(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(self: ReconnectingConsumer, connection: Connection) -> None:
        consumer = await Consumer.open(connection, self._endpoint.queue, prefetch=100)
        while True:
            for delivery in await consumer.take():
                await consumer.mark_done(1)
                await self._process(delivery)

    monkeypatch.setattr(ReconnectingConsumer, "_use", use)


def never_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "restart_policy", lambda _spec: RestartPolicy.NO)


@pytest.mark.parametrize(
    ("plant", "durable", "kinds", "symptom"),
    [
        (lose_requeued, "process", [FaultKind.CUT], "lost"),
        (confirm_at_once, "process", [FaultKind.BROKER_CRASH], "accepted job"),
        (forget_to_synchronize, "disk", [FaultKind.BROKER_CRASH], "accepted job"),
        (retry_post, "process", [FaultKind.CUT], "more than once"),
        (never_close_the_breaker, "process", [FaultKind.PARTITION], "breaker"),
        (acknowledge_before_handling, "process", [FaultKind.CRASH], "accepted job"),
        (never_restart, "process", [FaultKind.CRASH], "did not come true"),
    ],
)
def test_a_planted_defect_is_found_within_twenty_seeds(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    plant: Callable[[pytest.MonkeyPatch], None],
    durable: str,
    kinds: list[FaultKind],
    symptom: str,
) -> None:
    project = own_project(tmp_path, durable)
    plant(monkeypatch)
    found = first_failure(lambda seed: run_own(project, seed, kinds), range(1, 21))
    assert found is not None
    assert symptom in found.failure
