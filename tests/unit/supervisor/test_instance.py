"""The life of an instance under any sequence of exits, probes and commands.

The worker is played by the test, so that hypothesis decides what happens and when; the clock is the
fake one. What is claimed of an instance is compared with what the worker really is, at every event.
"""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from msctl.discovery.registry import Registry
from msctl.model.endpoint import Endpoint
from msctl.model.service_policies import RestartPolicy
from msctl.model.service_spec import ServiceSpec
from msctl.model.snapshots import State
from msctl.model.worker import Checks, Outcome, Report, StartError
from msctl.supervisor.instance import Instance
from msctl.telemetry.logs.hub import LogHub
from tests.support.clock import FakeClock, settle


class Played:
    """A worker whose fate the test decides. `well` is the truth about it."""

    def __init__(self, refuses: bool) -> None:
        self.refuses = refuses
        self.started = self.gone = self.well = False
        self.over: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.replace: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.report: Report | None = None
        self.pid = 4711
        self.address = None
        self.endpoint = Endpoint("x", "x-1", base_url="http://127.0.0.1:1")

    @property
    def checks(self) -> Checks:
        return self

    async def run(self, report: Report) -> str:
        self.report = report
        return await self.replace

    async def start(self) -> None:
        await asyncio.sleep(0)
        if self.refuses:
            self.gone = True
            raise StartError(Outcome(False, "refuses to start"))
        self.started = True

    def reconfigure(self, spec: ServiceSpec) -> None:
        self.spec = spec

    async def wait(self) -> Outcome:
        return await asyncio.shield(self.over)

    async def stop(self, timeout: float) -> str | None:
        await asyncio.sleep(0)
        self.well, self.gone = False, True
        return None

    def kill(self) -> None:
        self.gone = True

    def end(self, success: bool) -> None:
        self.well, self.gone = False, True
        if not self.over.done():
            self.over.set_result(Outcome(success, "exit 0" if success else "exit 1"))


class Stage:
    """An instance, its workers, and the invariants."""

    def __init__(self, policy: RestartPolicy, *, refuses: list[bool], oneshot: bool = False) -> None:
        self.clock = FakeClock()
        self.registry = Registry()
        self.workers: list[Played] = []
        self.refusals = iter(refuses)
        self.instance = Instance(
            ServiceSpec("x", command=("x",), restart=policy, oneshot=oneshot),
            "x-1",
            self.make,
            clock=self.clock,
            registry=self.registry,
            logs=LogHub(self.clock),
            chance=lambda: 0.5,
            changed=lambda instance: self.check(),
        )

    def make(self, _spec: ServiceSpec) -> Played:
        assert all(w.gone for w in self.workers), "a second copy was started beside the first"
        self.workers.append(Played(next(self.refusals, False)))
        return self.workers[-1]

    def check(self) -> None:
        instance = self.instance
        worker = self.workers[-1] if self.workers else None
        if instance.state is State.READY:
            assert worker is not None
            assert worker.started
            assert worker.well
            assert not worker.gone
        announced = self.registry.endpoints("x")
        assert bool(announced) == (instance.state is State.READY)

    def at_rest(self) -> None:
        assert all(w.gone for w in self.workers if w.started)


async def go(instance: Instance) -> str | None:
    return None


async def stop(stage: Stage) -> None:
    await stage.instance.stop(1.0)
    stage.at_rest()
    assert stage.instance.state is State.STOPPED


def probe(worker: Played, answer: str) -> None:
    if worker.report is None or worker.gone:
        return
    if answer == "pass":
        worker.well = True
        worker.report.passed()
    else:
        # One failure says nothing of its health yet; several in a row do.
        worker.well = worker.well and answer == "fail"
        worker.report.failed("503", unhealthy=answer == "unhealthy")


ACTIONS = st.sampled_from(
    [
        "start",
        "stop",
        "pass",
        "fail",
        "unhealthy",
        "exit 0",
        "exit 1",
        "replace",
        "time",
        "long time",
        "exit, stop",
    ]
)


@settings(deadline=None, max_examples=3 * settings().max_examples)
@given(
    st.sampled_from(list(RestartPolicy)),
    st.lists(ACTIONS, max_size=25),
    st.lists(st.booleans(), max_size=6),
    st.booleans(),
)
def test_ready_is_never_claimed_of_what_is_not_and_a_stop_leaves_nothing(
    policy: RestartPolicy, actions: list[str], refuses: list[bool], oneshot: bool
) -> None:
    async def play() -> None:
        stage = Stage(policy, refuses=refuses, oneshot=oneshot)
        instance = stage.instance
        for action in actions:
            worker = stage.workers[-1] if stage.workers and not stage.workers[-1].gone else None
            match action:
                case "start":
                    instance.begin(go)
                case "stop":
                    await stop(stage)
                case "time":
                    await stage.clock.advance(0.7)
                case "long time":
                    await stage.clock.advance(100.0)
                case "pass" | "fail" | "unhealthy" if worker:
                    probe(worker, action)
                case "exit 0" | "exit 1" if worker and worker.started:
                    worker.end(action == "exit 0")
                case "exit, stop" if worker and worker.started:
                    worker.end(False)
                    await stop(stage)
                case "replace" if worker and worker.report and not worker.replace.done():
                    worker.well = False
                    worker.replace.set_result("its liveness probe failed")
            if action not in ("exit 0", "exit 1", "replace"):
                stage.check()
            await settle()
            stage.check()
        await stop(stage)

    asyncio.run(play())


async def test_a_failure_after_five_restarts_is_fatal_and_a_new_start_begins_anew() -> None:
    stage = Stage(RestartPolicy.ON_FAILURE, refuses=[True] * 6)
    stage.instance.begin(go)
    await stage.clock.advance(60.0)
    assert stage.instance.snapshot().state is State.FATAL
    assert stage.instance.snapshot().reason == "refuses to start, after 5 restarts"
    assert stage.instance.snapshot().restarts == 5
    stage.instance.begin(go)
    await settle()
    assert stage.instance.snapshot().state is State.RUNNING
    assert stage.instance.snapshot().restarts == 0
    await stop(stage)


async def test_the_wait_until_the_next_try_is_counted_down() -> None:
    stage = Stage(RestartPolicy.ON_FAILURE, refuses=[True] * 4)
    stage.instance.begin(go)
    await stage.clock.advance(2.0)  # after 0.5 and 1 s; now 2 s, of which half a second has gone
    assert stage.instance.snapshot().reason == "refuses to start, retry in 1.5 s"
    assert stage.registry.absence("x") == "has failed and will be restarted: refuses to start"
    stage.instance.begin(go)  # somebody asks: at once
    await settle()
    assert len(stage.workers) == 4
    assert stage.instance.snapshot().reason == "refuses to start, retry in 0.5 s"
    await stop(stage)


async def test_the_last_probe_and_how_long_it_takes_are_shown_while_it_starts() -> None:
    stage = Stage(RestartPolicy.ON_FAILURE, refuses=[])
    stage.instance.begin(go)
    await settle()
    report = stage.workers[0].report
    assert report is not None
    report.failed("connection refused on 127.0.0.1:1", unhealthy=False)
    await stage.clock.advance(2.0)
    assert stage.instance.snapshot().reason == "connection refused on 127.0.0.1:1 (2.0 s)"
    assert stage.instance.snapshot().uptime_s == 2.0
    report.failed("refused by the certificate", unhealthy=False)
    assert stage.registry.absence("x").endswith("refused by the certificate")  # what the gateway says
    await stop(stage)
    assert stage.instance.snapshot().uptime_s is None


async def test_a_defect_of_ours_is_one_services_failure() -> None:
    stage = Stage(RestartPolicy.ON_FAILURE, refuses=[])

    class OopsError(Exception):
        pass

    def broken(_spec: ServiceSpec) -> Played:
        raise OopsError("oops")

    stage.instance._make = broken
    stage.instance.begin(go)
    await settle()
    assert stage.instance.state is State.FATAL
    assert "internal error" in stage.instance.reason


async def test_what_is_refused_by_its_gate_is_skipped() -> None:
    stage = Stage(RestartPolicy.ON_FAILURE, refuses=[])

    async def refuse(instance: Instance) -> str | None:
        instance.wait_for("waiting on users")
        await stage.clock.sleep(2.1)
        return "users failed: exit 1"

    stage.instance.begin(refuse)
    await stage.clock.advance(2.0)
    assert stage.instance.snapshot().reason == "waiting on users (2.0 s)"
    await stage.clock.advance(0.2)
    assert stage.instance.state is State.SKIPPED
    assert stage.registry.absence("x") == "was not started: users failed: exit 1"
    await stop(stage)


async def test_an_error_while_it_runs_stops_the_worker_and_is_retried() -> None:
    stage = Stage(RestartPolicy.ON_FAILURE, refuses=[])
    stage.instance.begin(go)
    await settle()
    stage.workers[0].over.set_exception(OSError(28, "No space left on device"))
    await settle()
    assert stage.instance.snapshot().state is State.BACKOFF
    assert "No space left on device" in stage.instance.reason
    assert stage.workers[0].gone
    await stage.clock.advance(0.6)
    assert stage.instance.snapshot().state is State.RUNNING
    await stop(stage)


async def test_an_error_of_the_gate_is_fatal_and_can_be_started_again() -> None:
    stage = Stage(RestartPolicy.ON_FAILURE, refuses=[])

    async def broken(_instance: Instance) -> str | None:
        raise OSError(28, "No space left on device")

    stage.instance.begin(broken)
    await settle()
    assert stage.instance.snapshot().state is State.FATAL
    stage.instance.begin(go)
    await settle()
    assert stage.instance.snapshot().state is State.RUNNING
    await stop(stage)


async def test_an_observer_that_raises_keeps_nothing_from_running() -> None:
    stage = Stage(RestartPolicy.ON_FAILURE, refuses=[])

    def broken(_instance: Instance) -> None:
        raise OSError(28, "No space left on device")

    stage.instance._changed = broken
    stage.instance.begin(go)
    await settle()
    assert stage.instance.snapshot().state is State.RUNNING
    stage.workers[0].end(False)
    await settle()
    assert stage.instance.snapshot().state is State.BACKOFF
    await stop(stage)


async def test_a_stop_that_raises_kills_the_worker_and_says_so() -> None:
    stage = Stage(RestartPolicy.ON_FAILURE, refuses=[])
    stage.instance.begin(go)
    await settle()

    async def broken(timeout: float) -> str | None:
        raise OSError(28, "No space left on device")

    stage.workers[0].stop = broken  # type: ignore[method-assign]
    await stage.instance.stop(1.0)
    assert stage.instance.snapshot().state is State.FATAL
    assert "No space left on device" in stage.instance.reason
    assert stage.workers[0].gone
    stage.instance.begin(go)
    await settle()
    assert stage.instance.snapshot().state is State.RUNNING
    await stop(stage)
