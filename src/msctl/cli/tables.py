"""The tables that `status` shows, once or again and again, drawn by rich."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from msctl.cli.render import links
from msctl.control.record import StackRecord
from msctl.model import BrokerSnapshot, QueueSnapshot, ServiceSnapshot, Snapshot, State

if TYPE_CHECKING:
    from msctl.cli.doctor import Finding
    from msctl.config import Explained

_STYLES = {
    State.READY: "green",
    State.RUNNING: "green",
    State.EXITED: "green",
    State.WAITING: "yellow",
    State.STARTING: "yellow",
    State.STOPPING: "yellow",
    State.BACKOFF: "yellow",
    State.UNHEALTHY: "red",
    State.FATAL: "bold red",
    State.SKIPPED: "red",
    State.STOPPED: "dim",
}
_UNLIMITED = 500
"""Columns where there is no terminal: nothing that a script reads may be wrapped."""


def show(view: RenderableType) -> None:
    """Draw on standard output; where that is no terminal, without colour, limit or padding."""
    if sys.stdout.isatty():
        Console(no_color=bool(os.environ.get("NO_COLOR")), highlight=False).print(view)
        return
    console = Console(width=_UNLIMITED, no_color=True, highlight=False, file=io.StringIO())
    with console.capture() as text:
        console.print(view)
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in text.get().splitlines())


def status_view(snapshot: Snapshot) -> Group:
    """The project, its services, the broker, and the broker's queues where it tells of them."""
    where = "the built-in course system" if snapshot.root is None else snapshot.root
    title = (
        f"project {snapshot.project} ({where}), pid {snapshot.pid}, up {show_duration(snapshot.uptime_s)}\n"
    )
    table = _table("NAME", "KIND", "STATE", "ADDRESS", "PID", "UPTIME", "RESTARTS", "CPU", "MEMORY", "REASON")
    for service in snapshot.services:
        table.add_row(*_service_row(service))
    table.add_row(*_broker_row(snapshot.broker))
    if not snapshot.broker.queues:
        return Group(Text(title), table)
    return Group(Text(title), table, Text(), queues_view(snapshot.broker.queues))


def queues_view(queues: Sequence[QueueSnapshot]) -> Table:
    """Each queue with its messages and consumers."""
    table = _table("QUEUE", "READY", "UNACKED", "CONSUMERS")
    for queue in queues:
        table.add_row(Text(queue.name), *map(str, (queue.ready, queue.unacked, queue.consumers)))
    return table


def stacks_view(records: Sequence[StackRecord]) -> Table:
    """Each stack with its folder, process and addresses."""
    table = _table("PROJECT", "PID", "ADDRESSES", "FOLDER")
    for record in records:
        where = " ".join(f"http://{address}" for address in record.addresses) or "-"
        folder = "-" if record.root is None else record.root
        table.add_row(*map(Text, (record.project, str(record.pid), where, folder)))
    return table


def findings_view(findings: Sequence[Finding]) -> Table:
    """What the doctor found, the advice below what it is for."""
    table = _table("CHECK", "", "FOUND")
    styles = {"ok": "green", "note": "yellow", "fail": "bold red"}
    for finding in findings:
        detail = f"{finding.detail}\n  {finding.advice}" if finding.advice else finding.detail
        verdict = Text(finding.verdict.value, style=styles[finding.verdict.value])
        table.add_row(Text(finding.check), verdict, Text(detail))
    return table


def explained_view(found: Sequence[Explained]) -> Table:
    """Each key with its value and where that came from."""
    table = _table("KEY", "VALUE", "FROM")
    for one in found:
        table.add_row(Text(one.key), Text(str(one.value)), Text(str(one.origin)))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _service_row(service: ServiceSnapshot) -> tuple[Text, ...]:
    return (
        Text(service.name),
        Text(service.kind.value),
        Text(service.state.value, style=_STYLES[service.state]),
        Text(" ".join(links(service)) or "-"),
        Text("-" if service.pid is None else str(service.pid)),
        Text("-" if service.uptime_s is None else show_duration(service.uptime_s)),
        Text(str(service.restarts)),
        Text("-" if service.cpu_percent is None else f"{service.cpu_percent:.0f}%"),
        Text("-" if service.memory_bytes is None else show_size(service.memory_bytes)),
        Text(service.reason),
    )


def _broker_row(broker: BrokerSnapshot) -> tuple[Text, ...]:
    state = Text(broker.state.value, style=_STYLES[broker.state])
    pid = "-" if broker.pid is None else str(broker.pid)
    cells = ("broker", broker.mode.value, state, broker.url, pid, "-", "-", "-", "-", broker.reason)
    return tuple(cell if isinstance(cell, Text) else Text(cell) for cell in cells)


def show_duration(seconds: float) -> str:
    """Two units at the most: `42s`, `3m07s`, `2h05m`, `4d01h`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def show_size(size: int) -> str:
    """In the largest binary unit that leaves at least one."""
    value = float(size)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
