"""What verbs found, as text for people or as a versioned JSON document; decides nothing.

Colour only on a terminal, and never with NO_COLOR. Text that was asked for goes to standard
output; what accompanies it (reasons, hints) to standard error.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from msctl.cli.output.tables import show, status_lines
from msctl.cli.output.terminal import STATE_COLOURS, colours, paint, printable
from msctl.model.snapshots import GATEWAY, Event, Kind, LogLine, LogQuery, ServiceSnapshot, Snapshot, State

if TYPE_CHECKING:
    from msctl.control.client import ControlClient
    from msctl.model.project import Project

LAST_LINES = 10
"""How much of a failed service's log is shown with its reason."""

_PREFIX_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_SETTLED = (State.READY, State.RUNNING, State.EXITED, State.STOPPED)


def event_text(event: Event) -> str:
    """`12:30:01 users-1 ready`, with the reason where there is one."""
    when = time.strftime("%H:%M:%S", time.localtime(event.time))
    reason = f": {printable(event.reason)}" if event.reason else ""
    return f"{when} {event.instance} {_state(event.state, colours(sys.stdout)).rstrip()}{reason}\n"


class LinePrinter:
    """Writes log lines as `service | text`, the names padded to one width and each in its colour."""

    def __init__(self, services: Sequence[str], stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._width = max(map(len, (*services, "msctl", "broker")))
        self._order = list(services)
        self._colours = colours(self._stream)

    def print(self, line: LogLine) -> None:
        prefix = f"{line.service:<{self._width}} |"
        if self._colours:
            prefix = paint(prefix, self._colour_of(line.service))
        self._stream.write(f"{prefix} {printable(line.text)}\n")
        self._stream.flush()

    def _colour_of(self, service: str) -> int:
        if service not in self._order:
            return 90
        return _PREFIX_COLOURS[self._order.index(service) % len(_PREFIX_COLOURS)]


def only(snapshot: Snapshot, names: Sequence[str]) -> Snapshot:
    """The snapshot with these services alone. Raises UnknownServiceError for a name that means none."""
    from dataclasses import replace

    from msctl.model.service_names import select

    chosen = select(names, [service.name for service in snapshot.services])
    return replace(snapshot, services=tuple(one for one in snapshot.services if one.name in chosen))


def print_status(snapshot: Snapshot, *, broker: bool = True, instances: bool = False) -> None:
    """The tables of `status`."""
    show(status_lines(snapshot, broker=broker, instances=instances))


def print_states(snapshot: Snapshot, names: Sequence[str]) -> None:
    """One line for each service that was named (all, if none was)."""
    for service in _named(snapshot, names):
        sys.stdout.write(f"{service.name}: {_state(service.state, colours(sys.stdout))}\n")


def print_started(snapshot: Snapshot, stream: TextIO | None = None) -> None:
    """What runs where, after a start."""
    stream = sys.stdout if stream is None else stream
    width = max(len(service.name) for service in snapshot.services)
    for service in snapshot.services:
        where = ", ".join(service.urls) or ", ".join(service.routes)
        if service.kind is Kind.REMOTE and service.reason:
            where += f": {printable(service.reason)}"
        state = _state(service.state, colours(stream))
        stream.write(f"{service.name:<{width}}  {state:<9}  {where}".rstrip() + "\n")
    broker = snapshot.broker
    stream.write(
        f"{'broker':<{width}}  {_state(broker.state, colours(stream)):<9}  {broker.url} ({broker.mode.value})"
    )
    stream.write(f": {broker.reason}\n" if broker.reason else "\n")
    if snapshot.dashboard is not None:
        stream.write(f"{'page':<{width}}  {'':<9}  {snapshot.dashboard}\n")
    stream.flush()


def print_trust(project: Project, snapshot: Snapshot, stream: TextIO | None = None) -> None:
    """How a client is made to trust a gateway whose certificate the local authority has signed."""
    if project.gateway is None or not project.gateway.tls.dev:
        return
    import shlex

    from msctl.tls.authority import Authority, data_folder

    urls = next((service.urls for service in snapshot.services if service.name == GATEWAY), ())
    file = Authority(data_folder(os.environ)).file
    stream = sys.stdout if stream is None else stream
    for url in urls:
        stream.write(f"to trust its certificate: curl --cacert {shlex.quote(str(file))} {url}/\n")
    stream.flush()


def failures(snapshot: Snapshot, names: Sequence[str] = ()) -> list[ServiceSnapshot]:
    """The services (of these, if any are named) that should run here and do not."""
    return [
        service
        for service in _named(snapshot, names)
        if service.state not in _SETTLED and service.kind is not Kind.REMOTE
    ]


def _named(snapshot: Snapshot, names: Sequence[str]) -> list[ServiceSnapshot]:
    """The services that any of these names or globs means; all, if there is none."""
    from fnmatch import fnmatchcase  # most verbs name nothing

    return [
        service
        for service in snapshot.services
        if not names or any(fnmatchcase(service.name, name) for name in names)
    ]


def print_failures(snapshot: Snapshot, client: ControlClient, names: Sequence[str] = ()) -> bool:
    """Why services are not up, each with its last log lines, on standard error; whether any is."""
    failed = failures(snapshot, names)
    for service in failed:
        reason = f": {service.reason}" if service.reason else ""
        sys.stderr.write(f"{service.name} is {service.state.value}{reason}\n")
        for line in client.logs(LogQuery((service.name,), LAST_LINES)):
            sys.stderr.write(f"    {printable(line.text)}\n")
    return bool(failed)


def _state(state: State, coloured: bool) -> str:
    text = f"{state.value:<9}"
    return paint(text, STATE_COLOURS[state]) if coloured else text.rstrip()
