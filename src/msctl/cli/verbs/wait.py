"""`wait`: wait until services of the running stack are ready, or stopped."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from msctl.cli.options.completion import SomeServices
from msctl.cli.options.durations import parse_duration
from msctl.cli.output.terminal import plain
from msctl.errors import NotRunningError, TimedOutError
from msctl.model.snapshots import State


class Condition(StrEnum):
    """What `wait` can wait for."""

    READY = "ready"
    STOPPED = "stopped"


_REACHED = {
    Condition.READY: frozenset({State.READY, State.EXITED}),
    Condition.STOPPED: frozenset({State.STOPPED, State.EXITED, State.FATAL, State.SKIPPED}),
}
_FAILED = frozenset({State.FATAL, State.SKIPPED})


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

    Exit code 3 as soon as one of them has failed.

    \b
    Examples:
      msctl wait users --timeout 30s
      msctl wait users --for stopped
    """
    from msctl.model.service_names import select

    seconds = None if timeout is None else parse_duration(timeout, "--timeout")
    client = ctx.obj.client()
    snapshot = client.snapshot()
    wanted = set(select(services, [service.name for service in snapshot.services]))
    states = {
        (service.name, instance.name): instance.state
        for service in snapshot.services
        if service.name in wanted
        for instance in service.instances
    }
    reached = _REACHED[condition]
    try:
        for event in client.events(timeout=seconds):
            if event.service in wanted:
                states[event.service, event.instance] = event.state
                if condition is Condition.READY and event.state in _FAILED:
                    raise NotRunningError(
                        f"service {event.service!r} is {event.state.value}: {plain(event.reason)}",
                        hint=f"see its log with: msctl logs {event.service}",
                    )
            if all(state in reached for state in states.values()):
                return
    except TimedOutError as error:
        pending = sorted({name for (name, _), state in states.items() if state not in reached})
        raise TimedOutError(
            f"not {condition.value} after {timeout}: {', '.join(pending)}",
            hint="see why with: msctl status",
        ) from error
    if condition is Condition.READY:
        raise NotRunningError("the stack stopped during the wait", hint="start it with: msctl up")
