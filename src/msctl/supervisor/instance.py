"""One instance: carries out the decisions of the restart policy, one step of the lifecycle at a time.

Knows one instance and its worker. Its dependencies (the gate) and its observers are callables.

Invariant: the state is true whatever raises. An error of the bookkeeping (a full disk, no descriptors left)
or a defect of msctl is logged, stops the worker and becomes a failure of this instance, which the restart
policy decides on; it never ends the task that supervises. Observers are called behind a guard.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import replace

from msctl.aio import first_of
from msctl.clock import AsyncClock
from msctl.discovery.registry import Registry
from msctl.errors import MsctlError
from msctl.model.service_spec import ServiceSpec
from msctl.model.services import stop_timeout
from msctl.model.snapshots import InstanceSnapshot, State
from msctl.model.worker import Outcome, StartError, Worker
from msctl.supervisor.lifecycle import AT_REST, Step, advance
from msctl.supervisor.policy import Done, Restarts, Retry, restart_limit, restart_policy, still_retries
from msctl.telemetry.logs.hub import STACK, LogHub

Gate = Callable[["Instance"], Awaitable[str | None]]
"""Waits for the dependencies of an instance; returns None to proceed, or why to skip it."""

SWEEP_S = 2.0
"""Seconds that processes left by a worker that exited by itself may take to stop."""

DRAIN_S = 10.0
"""Seconds that a stop waits at most for the requests that an instance is answering."""

_ABANDON_S = 5.0


class Instance:
    """One copy of a service, running or at rest."""

    def __init__(
        self,
        spec: ServiceSpec,
        name: str,
        make: Callable[[ServiceSpec], Worker],
        *,
        clock: AsyncClock,
        registry: Registry,
        logs: LogHub,
        chance: Callable[[], float],
        changed: Callable[[Instance], None],
    ) -> None:
        """`make` gives a worker for each start; `changed` is called with each new state or reason."""
        self.spec = spec
        self.name = name
        self.state = State.STOPPED
        self.reason = ""
        self.worker: Worker | None = None
        self.launched_at: float | None = None
        """When its last start began, in seconds since the epoch."""
        self._make = make
        self._clock = clock
        self._registry = registry
        self._drained = registry.drained
        """Also of an instance that left the registry to its replacement: it may have requests left."""
        self._logs = logs
        self._chance = chance
        self._changed = changed
        self._life: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._edited = asyncio.Event()
        self._restarts = Restarts(chance)
        self._restart_count = 0
        self._since = clock.monotonic()
        self._started_at: float | None = None
        self._ready_at: float | None = None
        self._retry_at: float | None = None
        self._exit: str | None = None
        self.absent = False
        """Whether its last start found no program, or no application."""
        self._ran = False
        """Whether its program has been started before, so that one that is missing may be being rebuilt."""
        self._served = False
        """Whether it has been ready before: the same for an application in a process of its own."""

    def begin(self, gate: Gate) -> None:
        """Start it from rest; from backoff, start it at once and reset its failures."""
        if self.state is State.BACKOFF:
            self._restarts = Restarts(self._chance)
            self._wake.set()
        elif self.state in AT_REST:
            self._restarts = Restarts(self._chance)
            self._restart_count = 0
            self._exit = None
            self._move(Step.START)
            self._life = asyncio.create_task(self._live(gate), name=f"life of {self.name}")

    async def stop(self, timeout: float) -> None:
        """Stop it in any state; never called twice concurrently."""
        await self._end_life()
        if self.state in (State.WAITING, State.BACKOFF, State.EXITED, State.FATAL, State.SKIPPED):
            self._move(Step.STOP)
            return
        if self.state is State.STOPPED:
            return
        if self.state is not State.STOPPING:
            self._move(Step.STOP)
        if self.worker is not None:
            try:
                await self._drain(timeout)
                self._exit = await self.worker.stop(timeout) or self._exit
                self.worker = None
            except Exception as error:  # noqa: BLE001 - the stop of the others goes on
                self._log_error()
                await self._discard()
                self._move(Step.FAIL, f"cannot stop it cleanly: {describe_error(error)}")
                return
        self._move(Step.GONE)

    async def _drain(self, timeout: float) -> None:
        """Let the requests end that it is answering: a program may answer none after its stop signal."""
        drained = self._drained(self.spec.name, self.name)
        await first_of(drained, self._clock.sleep(min(timeout, DRAIN_S)))

    def reconfigure(self, spec: ServiceSpec) -> None:
        """Apply the live keys of `spec`, which differs from the present one in nothing else."""
        self.spec = spec
        if self.worker is not None:
            self.worker.reconfigure(spec)
        if self.state is State.BACKOFF:
            self._edited.set()

    def kill(self) -> None:
        """Kill its worker now; a `stop` under way returns soon after."""
        if self.worker is not None:
            self.worker.kill()

    def withdraw(self, changed: Callable[[Instance], None] | None = None) -> None:
        """Leave the registry and events to another instance of its name; only `changed` is called."""
        self._registry = Registry()
        self._changed = changed or _ignore

    def announce(self, registry: Registry, changed: Callable[[Instance], None]) -> None:
        """Become the instance of its name: its state replaces the announced one in one step."""
        self._registry = registry
        self._changed = changed
        self._publish()
        self._tell()

    def wait_for(self, what: str) -> None:
        """Show what the start is waiting for."""
        if self.reason != what:
            self.reason = what
            self._tell()

    def passed(self) -> None:
        """A probe passed (see worker.Report)."""
        if self.state is not State.READY:
            self._be_ready()

    def moved(self) -> None:
        """Its worker has another endpoint (see worker.Report)."""
        self._publish()

    def failed(self, reason: str, *, unhealthy: bool) -> None:
        """A probe failed (see worker.Report)."""
        if unhealthy and self.state in (State.READY, State.RUNNING):
            self._move(Step.PROBE_FAILED, reason)
        elif self.reason != reason:
            self.reason = reason
            if self.state is not State.READY:
                self._publish()  # who asks for the service is told why, too

    def snapshot(self) -> InstanceSnapshot:
        """As `status` shows it, without its processes' usage."""
        now = self._clock.monotonic()
        worker = self.worker
        alive = worker is not None and self._started_at is not None
        return InstanceSnapshot(
            name=self.name,
            state=self.state,
            reason=self._reason_at(now),
            address=worker.address if worker else None,
            pid=worker.pid if worker else None,
            uptime_s=now - self._started_at if alive and self._started_at is not None else None,
            restarts=self._restart_count,
            exit=self._exit,
            launched_at=self.launched_at,
        )

    def _reason_at(self, now: float) -> str:
        if self.state is State.BACKOFF and self._retry_at is not None:
            return f"{self.reason}, retry in {max(0.0, self._retry_at - now):.1f} s"
        if self.state in (State.WAITING, State.STARTING, State.RUNNING, State.STOPPING) and self.reason:
            return f"{self.reason} ({now - self._since:.1f} s)"
        return self.reason

    async def _live(self, gate: Gate) -> None:
        try:
            await self._attempts(gate)
        except Exception as error:  # noqa: BLE001 - without this task nobody would notice the end of the worker
            self._log_error()
            await self._discard()
            if self.state not in AT_REST:
                self._move(Step.FAIL, describe_error(error))

    async def _attempts(self, gate: Gate) -> None:
        refusal = await gate(self)
        if refusal is not None:
            self._move(Step.SKIP, refusal)
            return
        while True:
            self._move(Step.PROCEED)
            outcome = await self._run()
            self.worker = None
            now = self._clock.monotonic()
            ready_for = 0.0 if self._ready_at is None else now - self._ready_at
            if outcome.absent and not (self._ran if self.spec.app is None else self._served):
                outcome = replace(outcome, final=True)
            decision = self._restarts.decide(
                restart_policy(self.spec), outcome, ready_for, limit=restart_limit(self.spec), now=now
            )
            self._exit = outcome.reason
            self.absent = outcome.absent
            if isinstance(decision, Done):
                self._move(Step.DONE, decision.reason)
                return
            if not isinstance(decision, Retry):
                self._move(Step.FAIL, decision.reason)
                return
            self._retry_at = now + decision.delay
            self._move(Step.RETRY, decision.reason)
            if not await self._back_off(now + decision.delay, outcome):
                self._move(Step.DONE if outcome.success else Step.FAIL, decision.reason)
                return
            self._restart_count += 1

    async def _run(self) -> Outcome:
        """Start the worker once and wait for its end."""
        self._started_at = self._ready_at = None
        try:
            self.launched_at = self._clock.time()
            worker = self.worker = self._make(self.spec)
            await worker.start()
            self._started_at = self._clock.monotonic()
            self._ran = True
            self._move(Step.UP)
            return await self._attend(worker)
        except StartError as error:
            return error.outcome
        except MsctlError as error:  # no free port, a host that is not ours: may be different at the next try
            return Outcome(False, error.message)
        except Exception as error:  # noqa: BLE001 - see the module's invariant
            self._log_error()
            await self._discard()
            # The system may have room, descriptors or memory again at the next try; a defect stays.
            return Outcome(False, describe_error(error), final=not isinstance(error, OSError))

    async def _attend(self, worker: Worker) -> Outcome:
        """Wait until the worker ends by itself, or its checks want it replaced; then it is gone."""
        checks = worker.checks
        if checks is None:
            if not self.spec.oneshot:
                self._be_ready()
            outcome = await worker.wait()
        else:
            ended, checked = await first_of(worker.wait(), checks.run(self))
            if ended.cancelled():
                why = str(checked.result())
                self._move(Step.STOP, why)
                await worker.stop(stop_timeout(self.spec))
                return Outcome(False, why)
            outcome = ended.result()
        if outcome.left_children:
            self._move(Step.STOP, outcome.reason)
            await worker.stop(SWEEP_S)
        return outcome

    async def _discard(self) -> None:
        """End the worker after an error, at any cost: nothing of it may run on unsupervised."""
        if self.worker is None:
            return
        try:
            self.worker.kill()
            await self.worker.stop(SWEEP_S)
        except Exception:  # noqa: BLE001 - the error that led here is the one to report
            self._log_error()
        self.worker = None

    def _log_error(self) -> None:
        try:
            self._logs.append(STACK, f"{self.name}: {traceback.format_exc()}", "error")
        except Exception:  # noqa: BLE001 - a listener of the log failed; the state is more important
            _ignore(self)

    async def _back_off(self, until: float, outcome: Outcome) -> bool:
        """Wait for the next start; False if a reload has edited the policy so that there is none."""
        self._wake.clear()
        while (left := until - self._clock.monotonic()) > 0:
            self._edited.clear()
            await first_of(self._clock.sleep(left), self._wake.wait(), self._edited.wait())
            if self._wake.is_set():
                return True
            if not still_retries(restart_policy(self.spec), restart_limit(self.spec), outcome):
                return False
        return True

    async def _end_life(self) -> None:
        life, self._life = self._life, None
        if life is None or life.done():
            return
        life.cancel()
        # User code that swallows its cancellation is abandoned.
        await asyncio.wait({life}, timeout=_ABANDON_S)

    def _be_ready(self) -> None:
        if self._ready_at is None:
            self._ready_at = self._clock.monotonic()
        self._served = True
        self._move(Step.PASS)

    def _move(self, step: Step, reason: str = "") -> None:
        self.state = advance(self.state, step)
        self.reason = reason
        self._since = self._clock.monotonic()
        self._publish()
        self._tell()

    def _publish(self) -> None:
        endpoint = self.worker.endpoint if self.worker else None
        if self.state is State.READY and endpoint is not None:
            weight = float(self.spec.weight)
            self._registry.announce(endpoint if weight == 1.0 else replace(endpoint, weight=weight))
        else:
            self._registry.withdraw(self.spec.name, self.name, absence(self.state, self.reason))

    def _tell(self) -> None:
        try:
            self._changed(self)
        except Exception:  # noqa: BLE001 - an observer's failure is not the instance's
            self._log_error()


def describe_error(error: Exception) -> str:
    """Describe an unexpected error as the reason of a state."""
    if isinstance(error, OSError):
        return f"system error: {error.strerror or error}"
    return f"internal error: {error!r}"


def _ignore(_instance: Instance) -> None:
    return None


_ABSENCES = {
    State.STOPPED: "is stopped",
    State.WAITING: "is waiting for its dependencies",
    State.STARTING: "is starting",
    State.RUNNING: "is starting",
    State.READY: "takes no requests",
    State.UNHEALTHY: "is unhealthy",
    State.BACKOFF: "has failed and will be restarted",
    State.STOPPING: "is stopping",
    State.EXITED: "has exited",
    State.FATAL: "has failed",
    State.SKIPPED: "was not started",
}


def absence(state: State, reason: str) -> str:
    """Why an instance takes no requests; follows the name of its service."""
    return f"{_ABSENCES[state]}: {reason}" if reason else _ABSENCES[state]
