"""The faults of a running stack: begins them, ends them on time, and says so.

Invariant: a fault that has begun ends, whatever happens to the rest: its end is on the loop's timer before it
begins, and `close` ends all. One whose begin fails is ended at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol

from msctl.clock import AsyncClock
from msctl.config.schema.quantities import show_duration
from msctl.errors import MsctlError, UsageError
from msctl.faults.active import ActiveFault, FaultBook
from msctl.faults.check import World, check
from msctl.faults.kinds import Place
from msctl.faults.spec import FaultSpec
from msctl.faults.view import AddedFault
from msctl.model.snapshots import FaultSnapshot
from msctl.telemetry.logs.hub import STACK, LogHub


class Carrier(Protocol):
    """A part of the stack that carries faults out."""

    def notes(self, spec: FaultSpec) -> Sequence[str]:
        """What the fault does not reach, for its user."""
        ...

    async def begin(self, fault: ActiveFault) -> None:
        """Break it. Raises MsctlError."""
        ...

    async def end(self, fault: ActiveFault) -> None:
        """Mend it."""
        ...

    def refresh(self, faults: Sequence[ActiveFault]) -> None:
        """These are the active faults of this part now."""
        ...


async def _at_once() -> None:
    pass


class FaultControl:
    """Implements FaultView."""

    def __init__(
        self,
        clock: AsyncClock,
        logs: LogHub,
        world: Callable[[], Awaitable[World]],
        carriers: dict[Place, Carrier],
        *,
        ready: Callable[[], Awaitable[None]] = _at_once,
        draw_seed: Callable[[], int] = lambda: random.getrandbits(32),
    ) -> None:
        """`ready` waits until the stack can have faults. Raises MsctlError if it stops."""
        self._clock = clock
        self._logs = logs
        self._world = world
        self._carriers = carriers
        self._ready = ready
        self._book = FaultBook(clock, draw_seed)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def active(self) -> tuple[FaultSnapshot, ...]:
        return self._book.snapshot()

    async def add(self, specs: Sequence[FaultSpec], *, force: bool = False) -> tuple[AddedFault, ...]:
        await self._ready()
        world = await self._world()
        resolved = [check(spec, world, force=force) for spec in specs]
        for spec in resolved:
            if spec.info.place not in self._carriers:
                raise UsageError(f"{spec.kind} cannot be set on this stack")
        begun: list[ActiveFault] = []
        added: list[AddedFault] = []
        try:
            for spec in resolved:
                fault = self._book.add(spec)
                begun.append(fault)
                await self._begin(fault)
                done = spec.info.once and not spec.every
                added.append(
                    AddedFault(
                        fault.snapshot(self._clock.monotonic()),
                        done,
                        tuple(self._carriers[spec.info.place].notes(spec)),
                    )
                )
        except BaseException:
            await self._end(begun, "it could not begin")
            raise
        await self._end([fault for fault in begun if fault.spec.info.once and not fault.spec.every], "done")
        return tuple(added)

    async def clear(self, ids: Sequence[str] = ()) -> tuple[FaultSnapshot, ...]:
        faults = self._book.find(ids)
        await self._end(faults, "cleared")
        now = self._clock.monotonic()
        return tuple(fault.snapshot(now) for fault in faults)

    async def clear_all(self, why: str) -> None:
        """End every fault."""
        await self._end(self._book.find(()), why)

    async def _begin(self, fault: ActiveFault) -> None:
        spec = fault.spec
        once = spec.info.once and not spec.every
        effect = f" ({spec.effect})" if spec.effect else ""
        lasting = "" if once else f" for {show_duration(spec.lasts)}"
        self._say(
            f"fault {fault.id} begins: {spec.kind} of {spec.target}{effect}{lasting}, seed {fault.seed}"
        )
        if not once:
            self._tasks[fault.id] = self._spawn(self._live(fault))
        carrier = self._refresh(spec.info.place)
        await carrier.begin(fault)

    async def _live(self, fault: ActiveFault) -> None:
        """Repeat a fault that repeats, and end it on time."""
        every = fault.spec.every
        while (left := fault.ends_at - self._clock.monotonic()) > 0:
            await self._clock.sleep(min(left, every) if every else left)
            if every and self._clock.monotonic() < fault.ends_at:
                try:
                    await self._carriers[fault.spec.info.place].begin(fault)
                except MsctlError as error:
                    self._say(f"fault {fault.id}: {error.message}")
                except Exception as error:  # noqa: BLE001 - it ends on time in any case
                    self._say(f"fault {fault.id} failed: {error!r}")
        self._tasks.pop(fault.id, None)
        await self._end([fault], f"after {show_duration(fault.spec.lasts)}")

    async def _end(self, faults: Iterable[ActiveFault], why: str) -> None:
        for fault in self._book.remove(list(faults)):
            task = self._tasks.pop(fault.id, None)
            if task is not None:
                task.cancel()
            carrier = self._refresh(fault.spec.info.place)
            try:
                await carrier.end(fault)
            except Exception as error:  # noqa: BLE001 - the other faults end in any case
                self._say(f"fault {fault.id} did not end cleanly: {error}")
            hits = f"{fault.hits} time" if fault.hits == 1 else f"{fault.hits} times"
            self._say(
                f"fault {fault.id} ended, {why}: {fault.spec.kind} of {fault.spec.target} struck {hits}"
            )

    def _refresh(self, place: Place) -> Carrier:
        carrier = self._carriers[place]
        carrier.refresh(self._book.of(place))
        return carrier

    def _say(self, text: str) -> None:
        self._logs.append(STACK, text, "warning")

    @staticmethod
    def _spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(work)
