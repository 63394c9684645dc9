"""`wait` and `events`: what a running stack goes through, for scripts."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from msctl.cli.options.completion import SomeServices
from msctl.cli.options.durations import parse_duration
from msctl.cli.output.documents import write_record
from msctl.cli.output.render import event_text
from msctl.cli.session import Settings
from msctl.errors import NotRunningError, TimedOutError
from msctl.model.snapshots import State


class Goal(StrEnum):
    """What `wait` can wait for."""

    READY = "ready"
    STOPPED = "stopped"


_REACHED = {
    Goal.READY: frozenset({State.READY, State.EXITED}),
    Goal.STOPPED: frozenset({State.STOPPED, State.EXITED, State.FATAL, State.SKIPPED}),
}
_LOST = frozenset({State.FATAL, State.SKIPPED})


def wait(
    ctx: typer.Context,
    services: SomeServices,
    goal: Annotated[
        Goal, typer.Option("--for", envvar="MSCTL_WAIT_FOR", help="What they must have become.")
    ] = Goal.READY,
    timeout: Annotated[
        str | None,
        typer.Option(
            envvar="MSCTL_WAIT_TIMEOUT", metavar="DURATION", help="Give up after this long (exit code 124)."
        ),
    ] = None,
) -> None:
    """Return once these services are ready, or have stopped.

    Exit code 3 as soon as one of them cannot become ready any more.
    """
    from msctl.model.service_names import select

    settings: Settings = ctx.obj
    seconds = None if timeout is None else parse_duration(timeout, "--timeout")
    client = settings.client()
    snapshot = client.snapshot()
    wanted = set(select(services, [service.name for service in snapshot.services]))
    states = {
        (service.name, instance.name): instance.state
        for service in snapshot.services
        if service.name in wanted
        for instance in service.instances
    }
    try:
        for event in client.events(timeout=seconds):
            if event.service in wanted:
                states[event.service, event.instance] = event.state
                if goal is Goal.READY and event.state in _LOST:
                    raise NotRunningError(
                        f"{event.service} is {event.state.value}: {event.reason}",
                        hint=f"see more with: msctl logs {event.service}",
                    )
            if all(state in _REACHED[goal] for state in states.values()):
                return
    except TimedOutError as error:
        pending = sorted({name for (name, _), state in states.items() if state not in _REACHED[goal]})
        raise TimedOutError(
            f"after {timeout} not yet {goal.value}: {', '.join(pending)}", hint="see why with: msctl status"
        ) from error
    if goal is Goal.READY:
        raise NotRunningError("the stack ended while we waited", hint="start it with: msctl up")


def events(
    ctx: typer.Context,
    as_json: Annotated[
        bool, typer.Option("--json", envvar="MSCTL_EVENTS_JSON", help="One JSON document a line.")
    ] = False,
) -> None:
    """Show the state of every service, and then each change as it happens (Ctrl-C ends it)."""
    settings: Settings = ctx.obj
    try:
        for event in settings.client().events():
            if as_json:
                write_record("event", event)
            else:
                sys.stdout.write(event_text(event))
                sys.stdout.flush()
    except KeyboardInterrupt:
        return
