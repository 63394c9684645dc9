"""`wait`: wait until services of the running stack are ready, or stopped."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from msctl.cli.options.completion import SomeServices
from msctl.cli.options.durations import parse_duration
from msctl.cli.output.show_waiting import showing_waiting
from msctl.cli.output.terminal import plain
from msctl.errors import NotRunningError, TimedOutError
from msctl.model.snapshots import State

if TYPE_CHECKING:
    from msctl.control.client import ControlClient
    from msctl.model.snapshots import Snapshot

CHECK_INTERVAL_S = 1.0
"""Seconds after which a service that is still stopped is an error, if there is no --timeout."""


class Condition(StrEnum):
    """What `wait` can wait for."""

    READY = "ready"
    STOPPED = "stopped"


_REACHED = {
    Condition.READY: frozenset({State.READY, State.EXITED}),
    Condition.STOPPED: frozenset({State.STOPPED, State.EXITED, State.FATAL, State.SKIPPED}),
}
_FAILED = frozenset({State.FATAL, State.SKIPPED})
_STARTING = frozenset({State.WAITING, State.STARTING})


def wait(
    ctx: typer.Context,
    services: SomeServices,
    condition: Annotated[
        Condition, typer.Option("--for", envvar="MSCTL_WAIT_FOR", help="The state to wait for.")
    ] = Condition.READY,
    timeout: Annotated[
        str | None,
        typer.Option(
            envvar="MSCTL_WAIT_TIMEOUT", metavar="DURATION", help="Give up after this time (exit code 124)."
        ),
    ] = None,
) -> None:
    """Wait until services are ready, or stopped.

    Exit code 3 as soon as one of them has failed; also if one is stopped and there is no --timeout.

    \b
    Examples:
      msctl wait users --timeout 30s
      msctl wait users --for stopped
    """
    seconds = None if timeout is None else parse_duration(timeout, "--timeout")
    client: ControlClient = ctx.obj.client()
    waiting = _Wait(client, services, condition)
    pending = frozenset(State) - _REACHED[condition]
    if seconds is None:
        with showing_waiting(client, states=pending, names=waiting.names):
            waiting.until_reached()
        return
    for name in waiting.stopped():
        sys.stderr.write(f"service {name!r} is stopped; start it with: msctl start {name}\n")
    sys.stderr.flush()
    try:
        with showing_waiting(client, states=pending, names=waiting.names):
            waiting.follow(seconds)
    except TimedOutError as error:
        raise TimedOutError(
            f"not {condition.value} after {timeout}: {', '.join(waiting.pending())}",
            hint="see why with: msctl status",
        ) from error


class _Wait:
    """The states of the instances that are waited for."""

    def __init__(self, client: ControlClient, services: list[str], condition: Condition) -> None:
        from msctl.model.service_names import select

        snapshot = client.snapshot()
        self._client = client
        self._condition = condition
        self.names = frozenset(select(services, [service.name for service in snapshot.services]))
        self._states: dict[tuple[str, str], State] = {}
        self._read(snapshot)

    def _read(self, snapshot: Snapshot) -> None:
        self._states = {
            (service.name, instance.name): instance.state
            for service in snapshot.services
            if service.name in self.names
            for instance in service.instances
        }

    def pending(self) -> list[str]:
        """Return the services that have not reached the state."""
        reached = _REACHED[self._condition]
        return sorted({name for (name, _), state in self._states.items() if state not in reached})

    def stopped(self) -> list[str]:
        """Return the services that nobody starts."""
        if self._condition is not Condition.READY:
            return []
        return sorted({name for (name, _), state in self._states.items() if state is State.STOPPED})

    def until_reached(self) -> None:
        """Wait without a limit; a service that stays stopped while the stack does not start is an error."""
        while True:
            try:
                return self.follow(CHECK_INTERVAL_S if self.stopped() else None)
            except TimedOutError:
                snapshot = self._client.snapshot()
                self._read(snapshot)
            for name in self.stopped():
                if snapshot.broker.state not in _STARTING:
                    raise NotRunningError(
                        f"service {name!r} is stopped", hint=f"start it with: msctl start {name}"
                    )

    def follow(self, seconds: float | None) -> None:
        """Return when the state is reached. Raises NotRunningError, and TimedOutError after `seconds`."""
        for _ in self._changes(seconds):
            if not self.pending():
                return
        if self._condition is Condition.READY:
            raise NotRunningError("the stack stopped during the wait", hint="start it with: msctl up")

    def _changes(self, seconds: float | None) -> Iterator[None]:
        for event in self._client.events(timeout=seconds):
            if event.service in self.names:
                self._states[event.service, event.instance] = event.state
                if self._condition is Condition.READY and event.state in _FAILED:
                    raise NotRunningError(
                        f"service {event.service!r} is {event.state.value}: {plain(event.reason)}",
                        hint=f"see its log with: msctl logs {event.service}",
                    )
            yield
