"""Which tests a worker of pytest-xdist runs one after the other, with what they share.

A fixture of a module exists once in each worker. Where it takes long to make, all tests of the module go
to one worker; everything else goes to whichever is free. (xdist's own marker `xdist_group` has no effect
with pytest 9.2: it changes a node's `_nodeid`, which is gone.)
"""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

TOGETHER = (
    "tests/browser/test_page.py",
    "tests/differential/test_restart.py",
    "tests/packaging/test_binary.py",
    "tests/process/test_machines.py",
    "tests/process/test_observed.py",
    "tests/process/test_three_ways.py",
    "tests/strangers/test_hosted.py",
    "tests/tools/test_docker.py",
    "tests/tools/test_exported.py",
    "tests/tools/test_nginx_as_the_gateway.py",
    "tests/tools/test_prometheus.py",
)
"""Modules that share a stack, a browser, an image, two restarts or the binary."""

SLOW = (
    "tests/process/test_broker_killed.py",
    "tests/process/test_durable.py",
    "tests/process/test_faults.py",
    "tests/process/test_local_rabbitmq.py",
    "tests/process/test_pages.py",
    "tests/process/test_rolling_restart.py",
    "tests/process/test_sim.py",
    "tests/process/test_starting.py",
    "tests/process/test_streaming.py",
    "tests/process/test_testing.py",
    "tests/process/test_tls.py",
    "tests/process/test_traces.py",
    "tests/strangers/test_instrumented.py",
    "tests/strangers/test_postgres.py",
    "tests/strangers/test_strangers.py",
    "tests/tools/test_measured.py",
)
"""Modules with single tests of ten seconds and more: at the end, one worker would wait for them."""


class Scheduling(LoadScopeScheduling):
    """Hands out tests one at a time, and the modules of TOGETHER whole and first."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return path if path in TOGETHER else nodeid

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        """Forget what has ended: xdist counts all that a worker was ever given, after every test."""
        nodeid = self.registered_collections[node][item_index]
        given, scope = self.assigned_work[node], self._split_scope(nodeid)
        given[scope][nodeid] = True
        if all(given[scope].values()):
            del given[scope]
        self._reschedule(node)

    def remove_node(self, node: WorkerController) -> str | None:
        """Return the test that has crashed a worker; give the others that it was to run to another."""
        given = self.assigned_work.pop(node)
        crashed = next((test for unit in given.values() for test, ended in unit.items() if not ended), None)
        if crashed is not None:
            given[self._split_scope(crashed)][crashed] = True  # xdist would run it again, on each new worker
            self.workqueue.update({scope: unit for scope, unit in given.items() if not all(unit.values())})
            for other in self.assigned_work:
                self._reschedule(other)
        return crashed


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slow modules before the others, which keep the order of the shuffle."""
    items.sort(key=lambda item: item.nodeid.partition("::")[0] not in SLOW)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    return Scheduling(config, log)
