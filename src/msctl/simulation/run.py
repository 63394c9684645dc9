"""One simulated run of a project, and the search for the shortest history that fails."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import re
import signal
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType
from typing import TYPE_CHECKING, Any

from msctl.errors import MsctlError
from msctl.model.project import Project
from msctl.model.traces import Trace
from msctl.simulation.around import LoopClock
from msctl.simulation.determinism import deterministic
from msctl.simulation.disk import CrashedError
from msctl.simulation.faults import Fault, FaultKind, draw
from msctl.simulation.history import Happening, History
from msctl.simulation.loop import VirtualLoop
from msctl.simulation.modules import SimulatedLoader, compiled_once
from msctl.simulation.network import CLIENT, Network
from msctl.simulation.parties import current_party
from msctl.simulation.refusals import BlockedError, NotSimulatedError, Refusals, StuckError
from msctl.simulation.world import ViolatedError, World

if TYPE_CHECKING:
    from msctl.simulation.spans import Spans

ScenarioFunction = Callable[[World], Awaitable[object]]
LONGEST_S = 3600.0
"""Virtual seconds after which a scenario that has not ended is stopped."""
BLOCKED_S = 15.0
"""Real seconds that code may run without giving the loop its turn; up to twice as many until it is seen."""
SHRINK_RUNS = 40
"""Runs that the shrinker makes at most."""


@dataclass(frozen=True)
class Scenario:
    """What clients do and what must hold: `run(world)`; `stubs` are applications in place of commands."""

    run: ScenarioFunction
    stubs: Callable[[], Mapping[str, object]] = dict
    seconds: float = 60.0
    """Virtual seconds within which faults happen."""
    file: Path | None = None


@dataclass(frozen=True)
class RunResult:
    """How a run ended: `failure` is empty if everything held."""

    seed: int
    failure: str
    where: str
    seconds: float
    digest: str
    faults: tuple[Fault, ...]
    history: tuple[Happening, ...]
    trace: Trace | None = None
    """The trace that says most, of a run that was traced."""


def simulate_once(
    project: Project,
    scenario: Scenario,
    seed: int,
    kinds: Sequence[FaultKind],
    *,
    faults: Sequence[Fault] | None = None,
    longest: float = LONGEST_S,
    traced: bool = False,
) -> RunResult:
    """Run the scenario with this seed; `faults` replace those that are drawn from it.

    Raises MsctlError for a project that cannot be simulated.
    """
    with _collected():
        return _simulate_once(project, scenario, seed, kinds, faults, longest, traced=traced)


def _simulate_once(
    project: Project,
    scenario: Scenario,
    seed: int,
    kinds: Sequence[FaultKind],
    faults: Sequence[Fault] | None,
    longest: float,
    *,
    traced: bool,
) -> RunResult:
    history = History()
    network = Network(Random(f"{seed} network"))  # noqa: S311 - not for secrets
    refusals = Refusals(project.root, scenario.file)
    loop = VirtualLoop(network, history, refusals)
    spans = loop.spans = _spans(loop) if traced else None
    loop.set_exception_handler(lambda _loop, context: _unhandled(history, loop, context))
    clock = LoopClock(loop)
    loader = SimulatedLoader(project.root)
    failure, where = "", ""
    chosen: list[Fault] = []
    quiet = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        observed = nullcontext() if spans is None else spans.publishing(lambda: current_party(CLIENT))
        with compiled_once(), _watched(loop), deterministic(loop.time, seed, refusals), observed:
            broker = Random(f"{seed} broker")  # noqa: S311 - not for secrets
            world = World(project, loop, clock, loader, scenario.stubs(), broker)
            if faults is None:
                random = Random(f"{seed} faults")  # noqa: S311 - not for secrets
                chosen = draw(random, kinds, world.targets(), scenario.seconds)
            else:
                chosen = list(faults)
            try:
                asyncio.set_event_loop(loop)
                loop.run_until_complete(_play(world, scenario, chosen, longest))
            except MsctlError:
                raise
            except _EndlessError as error:
                failure = f"the scenario did not end within {longest:g} virtual seconds"
                where = refusals.place_of(error.__cause__ or error)
            except (NotSimulatedError, StuckError, ViolatedError, AssertionError) as error:
                failure = str(error) or "an assertion of the scenario failed"
                where = refusals.place_of(error)
            except (Exception, SystemExit, BlockedError) as error:  # noqa: BLE001 - the scenario may raise anything
                failure, where = f"{type(error).__name__}: {error}", refusals.place_of(error)
                if refusals.first is not None:
                    failure, where = str(refusals.first), refusals.first.place
            finally:
                world.close()
    finally:
        _end(loop)
        loader.close()
        logging.disable(quiet)
    if spans is not None:
        spans.finish()
    return RunResult(
        seed,
        failure,
        where,
        loop.time(),
        history.digest,
        tuple(chosen),
        tuple(history.kept),
        None if spans is None else spans.telling(),
    )


def _spans(loop: VirtualLoop) -> Spans:
    from msctl.simulation.spans import Spans  # only a run that is shown needs them

    return Spans(loop.time)


def shrink(project: Project, scenario: Scenario, failed: RunResult, kinds: Sequence[FaultKind]) -> RunResult:
    """Return the run with the fewest faults that fails alike, as far as leaving faults out finds it."""
    best = failed
    size = max(1, len(best.faults) // 2)
    runs = 0
    while size and runs < SHRINK_RUNS:
        at, shorter = 0, False
        while at < len(best.faults) and runs < SHRINK_RUNS:
            kept = [*best.faults[:at], *best.faults[at + size :]]
            runs += 1
            tried = simulate_once(project, scenario, failed.seed, kinds, faults=kept)
            if _likeness(tried.failure) == _likeness(failed.failure):
                best, shorter = tried, True
            else:
                at += size
        if size == 1 and not shorter:
            break
        size = max(1, size // 2)
    return best


def _likeness(failure: str) -> str:
    """A failure without its numbers: another order may be the one that was lost."""
    return re.sub(r"\d+(, \d+)*", "", failure)


@contextmanager
def _collected() -> Iterator[None]:
    """Collect the garbage of a run at its end, and only that: in the middle it would run finalizers."""
    collecting = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        with warnings.catch_warnings():
            # Nothing of a run is closed or awaited at its end, as after a crash.
            warnings.simplefilter("ignore", RuntimeWarning)
            warnings.simplefilter("ignore", ResourceWarning)
            yield
            gc.collect()
    finally:
        gc.unfreeze()
        if collecting:
            gc.enable()


@contextmanager
def _watched(loop: VirtualLoop) -> Iterator[None]:
    """End a run whose code does not give the loop its turn: only a signal can interrupt it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen = -1

    def look(_signal: int, frame: FrameType | None) -> None:
        nonlocal seen
        before, seen = seen, loop.turns
        if before == loop.turns:
            raise loop.refusals.blocked(
                f"some code has run for {BLOCKED_S:g} s without waiting: it blocks every service", frame
            )

    former = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, BLOCKED_S, BLOCKED_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


class _EndlessError(Exception):
    """The scenario did not end; the cause says where it was."""


async def _play(world: World, scenario: Scenario, faults: list[Fault], longest: float) -> None:
    await world.start()
    await world.inject(faults)
    try:
        async with asyncio.timeout(longest) as limit:
            await scenario.run(world)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise _EndlessError from error.__cause__
    await world.http.close()


def _unhandled(history: History, loop: VirtualLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if error is not None and not isinstance(error, ConnectionError | CrashedError):
        history.add(loop.time(), f"unhandled {type(error).__name__}: {error}")


def _end(loop: VirtualLoop) -> None:
    """Drop what still runs: nothing of a run may go on."""
    loop.set_exception_handler(lambda _loop, _context: None)
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio has no public name for it
        coroutine = task.get_coro()
        if coroutine is not None:
            with contextlib.suppress(BaseException):  # of a run that is over; its `finally` may fail
                coroutine.close()
    asyncio.set_event_loop(None)
    loop.close()
