"""The tables that verbs show. Drawn by hand: importing rich would double what `msctl status` takes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from msctl.cli.output.terminal import BOLD, GREEN, RED, STATE_COLOURS, YELLOW, colours, paint, printable
from msctl.control.record import StackRecord
from msctl.model.snapshots import (
    BreakerState,
    BrokerSnapshot,
    InstanceSnapshot,
    QueueSnapshot,
    ServiceSnapshot,
    Snapshot,
    TargetSnapshot,
    url_of,
)

if TYPE_CHECKING:
    from msctl.cli.output.findings import Finding
    from msctl.config.render import Explained

_GAP = "  "
_BARS = "▁▂▃▄▅▆▇█"
_SERVICES = (
    *("NAME", "KIND", "STATE", "ADDRESS", "PID", "UPTIME", "RESTARTS"),
    *("CPU", "MEMORY", "REQ/S", "P95", "REASON"),
)
_INSTANCES = (
    *("INSTANCE", "STATE", "ADDRESS", "PID", "UPTIME", "RESTARTS", "CPU", "MEMORY"),
    *("BREAKER", "IN FLIGHT", "CONNECTIONS", "REASON"),
)
_QUEUES = ("QUEUE", "READY", "UNACKED", "CONSUMERS")
_BREAKER_COLOURS = {
    BreakerState.CLOSED: GREEN,
    BreakerState.HALF_OPEN: YELLOW,
    BreakerState.OPEN: RED,
}

Cell = str | tuple[str, int]
"""A text, or a text and its colour."""


def show(lines: Iterable[str]) -> None:
    """Write lines to standard output."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


def status_lines(
    snapshot: Snapshot, *, recent: bool = False, broker: bool = True, instances: bool = False
) -> Iterator[str]:
    """The project, its services, and the broker with its queues where it tells of them.

    With `recent`, a line of the requests of each of the last seconds is drawn for each service; with
    `instances`, each instance is shown as the supervisor and the gateway see it.
    """
    where = "the built-in course system" if snapshot.root is None else snapshot.root
    yield f"project {snapshot.project} ({where}), pid {snapshot.pid}, up {show_duration(snapshot.uptime_s)}"
    yield ""
    rows = [*map(_service_row, snapshot.services), *([_broker_row(snapshot.broker)] if broker else [])]
    if recent:
        lines = [*(sparkline(service.recent) for service in snapshot.services), *(["-"] if broker else [])]
        rows = [(*row[:-1], line, row[-1]) for row, line in zip(rows, lines, strict=True)]
    yield from table((*_SERVICES[:-1], *(["LAST SECONDS"] if recent else []), _SERVICES[-1]), rows)
    if instances:
        yield ""
        yield from instance_lines(snapshot.services)
    if broker and snapshot.broker.queues:
        yield ""
        yield from queue_lines(snapshot.broker.queues)


def instance_lines(services: Sequence[ServiceSnapshot]) -> Iterator[str]:
    """Each instance with its state, and what the gateway has there; a dash where that sends it nothing."""
    return table(_INSTANCES, (_instance_row(one) for service in services for one in service.instances))


def queue_lines(queues: Sequence[QueueSnapshot]) -> Iterator[str]:
    """Each queue with its messages and consumers."""
    return table(_QUEUES, ((q.name, *map(str, (q.ready, q.unacked, q.consumers))) for q in queues))


def stack_lines(records: Sequence[StackRecord]) -> Iterator[str]:
    """Each stack with its folder, process and addresses."""
    return table(
        ("PROJECT", "PID", "ADDRESSES", "FOLDER"),
        (
            (
                record.project,
                str(record.pid),
                " ".join(map(url_of, record.addresses)) or "-",
                record.root or "-",
            )
            for record in records
        ),
    )


def finding_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """What the doctor found, the advice below what it is for."""
    verdicts = {"ok": GREEN, "note": YELLOW, "fail": RED}
    rows: list[Sequence[Cell]] = []
    for finding in findings:
        verdict = finding.verdict.value
        rows.append((finding.check, (verdict, verdicts[verdict]), finding.detail))
        if finding.advice:
            rows.append(("", "", f"  {finding.advice}"))
    return table(("CHECK", "", "FOUND"), rows)


def explained_lines(found: Sequence[Explained]) -> Iterator[str]:
    """Each key with its value and where that came from."""
    return table(("KEY", "VALUE", "FROM"), ((one.key, str(one.value), str(one.source)) for one in found))


def table(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Iterator[str]:
    """Columns as wide as their widest cell; coloured where standard output is a terminal."""
    rows = list(rows)
    texts = [[cell if isinstance(cell, str) else cell[0] for cell in row] for row in rows]
    clean = [[printable(text) for text in row] for row in (list(header), *texts)]
    widths = [max(map(len, column)) for column in zip(*clean, strict=True)]
    coloured = colours(sys.stdout)
    styles: list[list[int | None]] = [[BOLD] * len(header)]
    styles += [[None if isinstance(cell, str) else cell[1] for cell in row] for row in rows]
    for row, style in zip(clean, styles, strict=True):
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        if coloured:
            cells = [
                cell if colour is None else paint(cell, colour)
                for cell, colour in zip(cells, style, strict=True)
            ]
        yield _GAP.join(cells).rstrip()


def _service_row(service: ServiceSnapshot) -> Sequence[Cell]:
    return (
        service.name,
        service.kind.value,
        (service.state.value, STATE_COLOURS[service.state]),
        " ".join(service.urls) or "-",
        "-" if service.pid is None else str(service.pid),
        *_usage_cells(service),
        "-" if service.requests_per_s is None else f"{service.requests_per_s:.1f}",
        "-" if service.p95_s is None else f"{service.p95_s * 1000:.1f}ms",
        service.reason,
    )


def _instance_row(instance: InstanceSnapshot) -> Sequence[Cell]:
    target = instance.target
    gateway: Sequence[Cell] = ("-", "-", "-") if target is None else _target_cells(target)
    return (
        instance.name,
        (instance.state.value, STATE_COLOURS[instance.state]),
        instance.address or (target.address.removeprefix("http://") if target is not None else "-"),
        "-" if instance.pid is None else str(instance.pid),
        *_usage_cells(instance),
        *gateway,
        instance.reason,
    )


def _target_cells(target: TargetSnapshot) -> Sequence[Cell]:
    breaker = target.breaker.value
    if target.breaker is BreakerState.OPEN:
        breaker += f", retry in {-int(-(target.retry_in_s or 0.0) // 1)} s"
    waiting = f" ({target.pool_waiting} waiting)" if target.pool_waiting else ""
    return (
        (breaker, _BREAKER_COLOURS[target.breaker]),
        str(target.in_flight),
        f"{target.pool_open}{waiting}",
    )


def _usage_cells(one: ServiceSnapshot | InstanceSnapshot) -> Sequence[Cell]:
    return (
        "-" if one.uptime_s is None else show_duration(one.uptime_s),
        str(one.restarts),
        "-" if one.cpu_percent is None else f"{one.cpu_percent:.0f}%",
        "-" if one.memory_bytes is None else show_size(one.memory_bytes),
    )


def _broker_row(broker: BrokerSnapshot) -> Sequence[Cell]:
    pid = "-" if broker.pid is None else str(broker.pid)
    state = (broker.state.value, STATE_COLOURS[broker.state])
    return ("broker", broker.mode.value, state, broker.url, pid, *("-",) * 6, broker.reason)


def sparkline(values: Sequence[float]) -> str:
    """One character for each value, as high as it is among them; flat where nothing happens."""
    most = max(values, default=0)
    if most <= 0:
        return _BARS[0] * len(values) or "-"
    return "".join(_BARS[round(value / most * (len(_BARS) - 1))] for value in values)


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
