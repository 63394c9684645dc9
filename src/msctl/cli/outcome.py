"""What came of an action on services: which are not up, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from msctl.cli.output.result import Result
from msctl.cli.output.terminal import plain, printable
from msctl.errors import ExitCode, NotRunningError
from msctl.model.snapshots import Kind, ServiceSnapshot, Snapshot, State

if TYPE_CHECKING:
    from msctl.control.client import ControlClient
    from msctl.model.views import ReloadResult

LOG_LINES = 10
"""Log lines of a failed service that are shown with its reason."""
_SETTLED = (State.READY, State.RUNNING, State.EXITED, State.STOPPED)


def select_services(snapshot: Snapshot, names: Sequence[str]) -> Snapshot:
    """Keep only the services that match `names`. Raises UnknownServiceError for a name without a match."""
    from msctl.model.service_names import select

    chosen = select(names, [service.name for service in snapshot.services])
    return replace(snapshot, services=tuple(one for one in snapshot.services if one.name in chosen))


def failed_services(snapshot: Snapshot, names: Sequence[str] = ()) -> list[ServiceSnapshot]:
    """List the services (of those that match `names`, if any) that should run in this stack and do not."""
    return [
        service
        for service in _named(snapshot, names)
        if service.state not in _SETTLED and service.kind is not Kind.REMOTE
    ]


def failure_lines(failed: Sequence[ServiceSnapshot], client: ControlClient) -> Iterator[str]:
    """Show each failed service with its reason and the last log lines since its instances' last start."""
    for service in failed:
        down = [one for one in service.instances if one.state not in _SETTLED]
        starts = [one.launched_at for one in down if one.launched_at is not None]
        reason = f": {plain(service.reason)}" if service.reason else ""
        yield f"{service.name} is {service.state.value}{reason}"
        yield from last_log_lines(service.name, client, since=min(starts, default=None))


def last_log_lines(service: str, client: ControlClient, since: float | None = None) -> Iterator[str]:
    """Show the last lines of a service's log, indented; none if the stack has stopped meanwhile."""
    from msctl.model.events import LogQuery  # only a failure needs it

    with suppress(NotRunningError):
        for line in client.logs(LogQuery((service,), LOG_LINES, since=since)):
            # A traceback is one line of the log, of many lines.
            for part in line.text.splitlines():
                yield f"    {printable(part)}"


def reload_problems(result: ReloadResult, client: ControlClient) -> Iterator[str]:
    """Show each service that a reload did not update, with its reason and its last log lines."""
    for name, reason in result.failed.items():
        yield f"{name} was not updated: {plain(reason)}"
        yield from last_log_lines(name, client)


def services_result(
    snapshot: Snapshot, names: Sequence[str], client: ControlClient, *, as_json: bool
) -> Result:
    """Report the states of the services that match `names` (all, if none are given)."""
    from msctl.cli.output.service_lines import state_lines  # `status` does not need it

    services = _named(snapshot, names)
    failed = failed_services(snapshot, names)
    return Result(
        "services",
        services,
        lambda: state_lines(services),
        problems=tuple(failure_lines(failed, client)),
        exit_code=ExitCode.FAILED if failed else ExitCode.OK,
        as_json=as_json,
    )


def stopped_result(snapshot: Snapshot, names: Sequence[str], *, as_json: bool) -> Result:
    """Report the states of services that were stopped; none of them can have failed."""
    from msctl.cli.output.service_lines import state_lines  # `status` does not need it

    services = _named(snapshot, names)
    return Result("services", services, lambda: state_lines(services), as_json=as_json)


def _named(snapshot: Snapshot, names: Sequence[str]) -> list[ServiceSnapshot]:
    return [
        service
        for service in snapshot.services
        if not names or any(fnmatchcase(service.name, name) for name in names)
    ]
