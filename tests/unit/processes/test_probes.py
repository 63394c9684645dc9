"""When to probe and what answers mean; then the probes themselves, against real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.model.address import Address
from msctl.processes.probes import (
    Probe,
    ProbeError,
    ProbeOutcome,
    ProcessChecks,
    Schedule,
    UptimeChecks,
    http_probe,
    tcp_probe,
)
from tests.support.clock import FakeClock, settle
from tests.support.supervisor import free_port


def test_failures_before_the_first_success_do_not_count_until_it_is_too_late() -> None:
    schedule = Schedule(started_at=100.0, deadline=60.0)
    assert schedule.answer(False, 100.0) is ProbeOutcome.NOT_YET
    assert schedule.answer(False, 159.9) is ProbeOutcome.NOT_YET
    assert schedule.answer(False, 160.0) is ProbeOutcome.LATE


def test_a_success_is_readiness_and_three_failures_are_sickness_until_one_success() -> None:
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
def test_the_pause_while_starting_grows_to_a_tenth_of_a_second(elapsed: float, pause: float) -> None:
    assert Schedule(0.0, 60.0).pause(elapsed) == pytest.approx(pause)


def test_a_ready_one_is_asked_every_ten_seconds_and_a_failing_one_every_second() -> None:
    schedule = Schedule(0.0, 60.0, ready=True)
    assert schedule.pause(1.0) == 10.0
    schedule.answer(False, 1.0)
    assert schedule.pause(1.0) == 1.0
    schedule.answer(True, 2.0)
    assert schedule.pause(2.0) == 10.0


@given(st.lists(st.booleans(), max_size=50))
def test_sick_means_three_failures_since_the_last_success(answers: list[bool]) -> None:
    schedule = Schedule(0.0, 60.0, ready=True)
    failures = 0
    for passed in answers:
        outcome = schedule.answer(passed, 1.0)
        failures = 0 if passed else failures + 1
        assert (outcome is ProbeOutcome.UNHEALTHY) == (failures >= 3)


class Told:
    """What checks report, in order."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def passed(self) -> None:
        self.words.append("passed")

    def failed(self, reason: str, *, sick: bool) -> None:
        self.words.append(f"{'sick' if sick else 'failed'}: {reason}")


class Script:
    """A probe whose answer the test sets."""

    def __init__(self) -> None:
        self.why: str | None = "refused"
        self.asked = 0

    async def __call__(self) -> None:
        self.asked += 1
        if self.why is not None:
            raise ProbeError(self.why)


def checks(
    clock: FakeClock, probe: Probe | None, printed: asyncio.Event | None = None, liveness: bool = False
) -> ProcessChecks:
    return ProcessChecks(clock, clock.monotonic(), 60.0, probe, printed, liveness)


async def end(task: asyncio.Task[str]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_life_of_a_probed_process() -> None:
    clock, told, probe = FakeClock(), Told(), Script()
    task = asyncio.create_task(checks(clock, probe).run(told))
    await clock.advance(1.0)
    assert told.words
    assert set(told.words) == {"failed: refused"}
    probe.why = None
    await clock.advance(0.2)
    assert told.words[-1] == "passed"
    asked = probe.asked
    await clock.advance(9.5)
    assert probe.asked == asked
    probe.why = "503"
    await clock.advance(0.6)
    assert probe.asked == asked + 1
    await clock.advance(2.0)
    assert told.words[-3:] == ["failed: 503", "failed: 503", "sick: 503"]
    probe.why = None
    await clock.advance(1.0)
    assert told.words[-1] == "passed"
    await end(task)


async def test_one_that_is_late_has_to_be_replaced() -> None:
    clock = FakeClock()
    task = asyncio.create_task(checks(clock, Script()).run(Told()))
    await clock.advance(59.0)
    assert not task.done()
    await clock.advance(1.1)
    assert await task == "not ready within 60 s: refused"


async def test_a_liveness_probe_asks_for_a_replacement_where_others_only_report() -> None:
    clock, probe = FakeClock(), Script()
    probe.why = None
    task = asyncio.create_task(checks(clock, probe, liveness=True).run(Told()))
    await settle()
    probe.why = "stuck"
    await clock.advance(13.0)
    assert await task == "liveness probe failed 3 times: stuck"


async def test_a_ready_line_comes_before_the_probe_which_then_only_watches() -> None:
    clock, told, probe, printed = FakeClock(), Told(), Script(), asyncio.Event()
    task = asyncio.create_task(checks(clock, probe, printed).run(told))
    await clock.advance(5.0)
    assert (probe.asked, told.words) == (0, [])
    printed.set()
    await settle()
    assert told.words == ["passed"]
    await clock.advance(12.5)
    assert told.words == ["passed", "failed: refused", "failed: refused", "sick: refused"]
    await end(task)


async def test_a_ready_line_that_does_not_come() -> None:
    clock = FakeClock()
    task = asyncio.create_task(checks(clock, None, asyncio.Event()).run(Told()))
    await clock.advance(60.0)
    assert await task == "no ready line within 60 s"


async def test_one_of_which_nothing_can_be_asked_is_ready_after_a_moment() -> None:
    clock, told = FakeClock(), Told()
    task = asyncio.create_task(UptimeChecks(clock).run(told))
    await clock.advance(0.2)
    assert told.words == []
    await clock.advance(0.1)
    assert told.words == ["passed"]
    await end(task)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[Address]:
    """Answers every connection with these bytes; with None, never."""
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer is None:
            await release.wait()
        else:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield Address("127.0.0.1", listening.sockets[0].getsockname()[1])
        release.set()
        await asyncio.sleep(0)


async def asked(probe: Probe) -> str | None:
    try:
        await probe()
    except ProbeError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("answer", "verdict"),
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
async def test_what_an_http_probe_makes_of_an_answer(answer: bytes, verdict: str | None) -> None:
    async with server(answer) as address:
        assert await asked(http_probe(address, "healthz")) == verdict


async def test_a_tcp_probe_is_content_with_a_connection() -> None:
    async with server(b"") as address:
        assert await asked(tcp_probe(Address("0.0.0.0", address.port))) is None


async def test_a_refused_connection_is_said_with_its_address() -> None:
    port = free_port()
    assert await asked(tcp_probe(Address("127.0.0.1", port))) == f"connection refused on 127.0.0.1:{port}"
    assert await asked(tcp_probe(Address("no.such.invalid", 1))) is not None


async def test_an_answer_that_does_not_come_is_given_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msctl.processes.probes.PROBE_TIMEOUT", 0.05)
    clock, told = FakeClock(), Told()
    async with server(None) as address:
        done = asyncio.Event()
        task = asyncio.create_task(
            ProcessChecks(clock, 0.0, 0.0, http_probe(address, "/"), None, False).run(told)
        )
        task.add_done_callback(lambda _: done.set())
        await done.wait()
        assert await task == "not ready within 0 s: no response within 0.05 s"
