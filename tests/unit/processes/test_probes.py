"""When to probe and what results mean; the probes themselves against real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.model.address import Address
from msctl.processes.checks import ProcessChecks, UptimeChecks
from msctl.processes.probe_schedule import (
    READY_EVERY,
    ProbeOutcome,
    Schedule,
    Timing,
)
from msctl.processes.probes import (
    Probe,
    ProbeError,
    http_probe,
    tcp_probe,
)
from tests.support.clock import FakeClock, settle
from tests.support.supervisor import free_port


def test_failures_before_the_first_success_count_only_at_the_deadline() -> None:
    schedule = Schedule(started_at=100.0, deadline=60.0)
    assert schedule.answer(False, 100.0) is ProbeOutcome.NOT_YET
    assert schedule.answer(False, 159.9) is ProbeOutcome.NOT_YET
    assert schedule.answer(False, 160.0) is ProbeOutcome.LATE


def test_one_success_is_ready_and_three_failures_are_unhealthy() -> None:
    schedule = Schedule(0.0, 60.0)
    assert schedule.answer(True, 1.0) is ProbeOutcome.PASSED
    assert [schedule.answer(False, 2.0) for _ in range(4)] == [
        ProbeOutcome.FAILED,
        ProbeOutcome.FAILED,
        ProbeOutcome.UNHEALTHY,
        ProbeOutcome.UNHEALTHY,
    ]
    assert schedule.answer(True, 3.0) is ProbeOutcome.PASSED
    assert schedule.answer(False, 4.0) is ProbeOutcome.FAILED


@pytest.mark.parametrize(
    ("elapsed", "pause"),
    [(0.0, 0.01), (0.2, 0.02), (0.5, 0.05), (1.0, 0.1), (30.0, 0.1), (59.95, 0.05), (70, 0.0)],
)
def test_the_pause_while_starting_grows_to_100_ms(elapsed: float, pause: float) -> None:
    assert Schedule(0.0, 60.0).pause(elapsed) == pytest.approx(pause)


def test_a_service_that_answers_is_probed_less_and_less_often() -> None:
    schedule, now, times = Schedule(0.0, 60.0, timing=Timing(interval=5.0)), 0.0, []
    while schedule.answer(False, now) is ProbeOutcome.NOT_YET:
        times.append(now)
        now += schedule.pause(now)
    assert len(times) < 20
    assert times[:4] == pytest.approx([0.0, 0.1, 0.3, 0.7])
    assert now == pytest.approx(60.0)


def test_a_start_period_longer_than_the_deadline_has_pauses_to_its_end() -> None:
    schedule = Schedule(0.0, 60.0, timing=Timing(start_period=120.0))
    assert schedule.pause(90.0) == pytest.approx(0.1)


def test_a_ready_process_is_probed_every_10_s_and_a_failing_one_every_second() -> None:
    schedule = Schedule(0.0, 60.0, ready=True)
    assert schedule.pause(1.0) == 10.0
    schedule.answer(False, 1.0)
    assert schedule.pause(1.0) == 1.0
    schedule.answer(True, 2.0)
    assert schedule.pause(2.0) == 10.0


@given(st.lists(st.booleans(), max_size=50))
def test_unhealthy_means_three_failures_since_the_last_success(answers: list[bool]) -> None:
    schedule = Schedule(0.0, 60.0, ready=True)
    failures = 0
    for passed in answers:
        outcome = schedule.answer(passed, 1.0)
        failures = 0 if passed else failures + 1
        assert (outcome is ProbeOutcome.UNHEALTHY) == (failures >= 3)


class Reported:
    """The results that checks report, in order."""

    def __init__(self) -> None:
        self.results: list[str] = []

    def passed(self) -> None:
        self.results.append("passed")

    def moved(self) -> None:
        self.results.append("moved")

    def failed(self, reason: str, *, unhealthy: bool) -> None:
        self.results.append(f"{'unhealthy' if unhealthy else 'failed'}: {reason}")


class ScriptedProbe:
    """A probe whose result the test sets."""

    def __init__(self) -> None:
        self.failure: str | None = "refused"
        self.runs = 0

    async def __call__(self) -> None:
        self.runs += 1
        if self.failure is not None:
            raise ProbeError(self.failure)


def checks(
    clock: FakeClock, probe: Probe | None, printed: asyncio.Event | None = None, liveness: bool = False
) -> ProcessChecks:
    return ProcessChecks(clock, clock.monotonic(), 60.0, probe, printed, liveness)


async def test_a_server_is_asked_only_once_it_accepts_connections_and_its_failures_are_logged_once() -> None:
    clock, connect, probe = FakeClock(), ScriptedProbe(), ScriptedProbe()
    logged: list[str] = []
    watched = ProcessChecks(clock, 0.0, 60.0, probe, None, False, connect=connect, log=logged.append)
    task = asyncio.create_task(watched.run(Reported()))
    await clock.advance(2.0)
    assert connect.runs > 10
    assert (probe.runs, logged) == (0, [])
    connect.failure, probe.failure = None, "GET /: 503"
    await clock.advance(20.0)
    assert 4 < probe.runs < 12
    assert logged == ["probe failed: GET /: 503"]
    probe.failure = "GET /: 404"
    await clock.advance(20.0)
    assert logged[1:] == ["probe failed: GET /: 404"]
    await end(task)


async def end(task: asyncio.Task[str]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_probed_process_becomes_ready_unhealthy_and_ready_again() -> None:
    clock, reported, probe = FakeClock(), Reported(), ScriptedProbe()
    task = asyncio.create_task(checks(clock, probe).run(reported))
    await clock.advance(1.0)
    assert reported.results
    assert set(reported.results) == {"failed: refused"}
    probe.failure = None
    await clock.advance(1.0)
    assert reported.results[-1] == "passed"
    asked = probe.runs
    await clock.advance(9.0)
    assert probe.runs == asked
    probe.failure = "503"
    await clock.advance(0.6)
    assert probe.runs == asked + 1
    await clock.advance(2.0)
    assert reported.results[-3:] == ["failed: 503", "failed: 503", "unhealthy: 503"]
    probe.failure = None
    await clock.advance(1.0)
    assert reported.results[-1] == "passed"
    await end(task)


async def test_a_process_that_is_not_ready_in_time_is_replaced() -> None:
    clock = FakeClock()
    task = asyncio.create_task(checks(clock, ScriptedProbe()).run(Reported()))
    await clock.advance(59.0)
    assert not task.done()
    await clock.advance(1.1)
    assert await task == "not ready within 60 s: refused"


async def test_only_a_failing_liveness_probe_replaces_the_process() -> None:
    clock, probe = FakeClock(), ScriptedProbe()
    probe.failure = None
    task = asyncio.create_task(checks(clock, probe, liveness=True).run(Reported()))
    await settle()
    probe.failure = "stuck"
    await clock.advance(13.0)
    assert await task == "liveness probe failed 3 times: stuck"


async def test_the_probe_runs_only_after_the_ready_line() -> None:
    clock, reported, probe, printed = FakeClock(), Reported(), ScriptedProbe(), asyncio.Event()
    task = asyncio.create_task(checks(clock, probe, printed).run(reported))
    await clock.advance(5.0)
    assert (probe.runs, reported.results) == (0, [])
    printed.set()
    await settle()
    assert reported.results == ["passed"]
    await clock.advance(12.5)
    assert reported.results == ["passed", "failed: refused", "failed: refused", "unhealthy: refused"]
    await end(task)


async def test_a_missing_ready_line_replaces_the_process() -> None:
    clock = FakeClock()
    task = asyncio.create_task(checks(clock, None, asyncio.Event()).run(Reported()))
    await clock.advance(60.0)
    assert await task == "no ready line within 60 s"


async def test_a_process_without_a_probe_is_ready_after_its_minimum_uptime() -> None:
    clock, reported = FakeClock(), Reported()
    task = asyncio.create_task(UptimeChecks(clock).run(reported))
    await clock.advance(0.2)
    assert reported.results == []
    await clock.advance(0.1)
    assert reported.results == ["passed"]
    await end(task)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(response: bytes | None) -> AsyncIterator[Address]:
    """Answer every connection with these bytes; with None, never. Waits for its connections at the end."""
    release = asyncio.Event()
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            if response is None:
                await release.wait()
            else:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(response)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield Address("127.0.0.1", listening.sockets[0].getsockname()[1])
        release.set()
        await settle()
        await asyncio.gather(*connections)


async def failure_of(probe: Probe) -> str | None:
    try:
        await probe()
    except ProbeError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("response", "failure"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", None),
        (b"HTTP/1.0 302 Found\r\n\r\n", None),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "GET /healthz: 503 Service Unavailable"),
        (b"HTTP/1.1 404\r\n\r\n", "GET /healthz: 404"),
        (b"220 smtp ready\r\n", "GET /healthz: the response is not HTTP"),
        (b"", "GET /healthz: the connection was closed without a response"),
        (b"x" * 40_000, "GET /healthz: Separator is not found, and chunk exceed the limit"),
    ],
)
async def test_an_http_probe_accepts_2xx_and_3xx_only(response: bytes, failure: str | None) -> None:
    async with server(response) as address:
        assert await failure_of(http_probe(address, "healthz")) == failure


async def test_a_tcp_probe_needs_only_a_connection() -> None:
    async with server(b"") as address:
        assert await failure_of(tcp_probe(Address("0.0.0.0", address.port))) is None


async def test_a_refused_connection_is_reported_with_its_address() -> None:
    port = free_port()
    assert (
        await failure_of(tcp_probe(Address("127.0.0.1", port))) == f"connection refused on 127.0.0.1:{port}"
    )
    assert await failure_of(tcp_probe(Address("no.such.invalid", 1))) is not None


async def test_a_probe_without_a_response_times_out() -> None:
    clock, reported = FakeClock(), Reported()
    async with server(None) as address:
        done = asyncio.Event()
        task = asyncio.create_task(
            ProcessChecks(clock, 0.0, 0.0, http_probe(address, "/"), None, False, Timing(timeout=0.05)).run(
                reported
            )
        )
        task.add_done_callback(lambda _: done.set())
        await done.wait()
        assert await task == "not ready within 0 s: no response within 0.05 s"


async def test_a_probe_fails_while_a_fault_says_so_and_a_start_is_as_slow_as_one_says() -> None:
    clock, reported, probe = FakeClock(), Reported(), ScriptedProbe()
    probe.failure = None
    broken: list[str] = []
    slow = [5.0]
    watched = ProcessChecks(
        clock, 0.0, 60.0, probe, None, False,
        failing=lambda: broken[0] if broken else None, slowness=lambda: slow[0],
    )  # fmt: skip
    task = asyncio.create_task(watched.run(reported))
    await clock.advance(4.5)
    assert (probe.runs, reported.results) == (0, [])
    await clock.advance(1.0)
    assert reported.results == ["passed"]
    broken.append("the fault f1")
    await clock.advance(READY_EVERY + 3.0)
    assert set(reported.results[1:]) == {"failed: the fault f1", "unhealthy: the fault f1"}
    broken.clear()
    await clock.advance(2.0)
    assert reported.results[-1] == "passed"
    await end(task)


async def test_a_start_that_a_fault_slows_beyond_the_time_limit_has_failed() -> None:
    clock = FakeClock()
    watched = ProcessChecks(clock, 0.0, 3.0, ScriptedProbe(), None, False, slowness=lambda: 60.0)
    task = asyncio.create_task(watched.run(Reported()))
    await clock.advance(4.0)
    assert (await task).startswith("not ready within 3 s")
