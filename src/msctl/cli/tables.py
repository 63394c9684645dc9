"""The tables that verbs show. Drawn by hand: importing rich would double what `msctl status` takes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from msctl.cli.render import BOLD, GREEN, RED, STATE_COLOURS, YELLOW, colours, paint, printable
from msctl.control.record import StackRecord
from msctl.model import BrokerSnapshot, QueueSnapshot, ServiceSnapshot, Snapshot, url_of

if TYPE_CHECKING:
    from msctl.cli.doctor import Finding
    from msctl.config.render import Explained

_GAP = "  "
_BARS = "▁▂▃▄▅▆▇█"
_SERVICES = (
    *("NAME", "KIND", "STATE", "ADDRESS", "PID", "UPTIME", "RESTARTS"),
    *("CPU", "MEMORY", "REQ/S", "P95", "REASON"),
)
_QUEUES = ("QUEUE", "READY", "UNACKED", "CONSUMERS")

Cell = str | tuple[str, int]
"""A text, or a text and its colour."""


def show(lines: Iterable[str]) -> None:
    """Write lines to standard output."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


def status_lines(snapshot: Snapshot, *, recent: bool = False) -> Iterator[str]:
    """The project, its services, the broker, and the broker's queues where it tells of them.

    With `recent`, a line of the requests of each of the last seconds is drawn for each service.
    """
    where = "the built-in course system" if snapshot.root is None else snapshot.root
    yield f"project {snapshot.project} ({where}), pid {snapshot.pid}, up {show_duration(snapshot.uptime_s)}"
    yield ""
    rows = [*map(_service_row, snapshot.services), _broker_row(snapshot.broker)]
    if recent:
        lines = [*(sparkline(service.recent) for service in snapshot.services), "-"]
        rows = [(*row[:-1], line, row[-1]) for row, line in zip(rows, lines, strict=True)]
    yield from table((*_SERVICES[:-1], *(["LAST SECONDS"] if recent else []), _SERVICES[-1]), rows)
    if snapshot.broker.queues:
        yield ""
        yield from queue_lines(snapshot.broker.queues)


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
    return table(("KEY", "VALUE", "FROM"), ((one.key, str(one.value), str(one.origin)) for one in found))


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
        "-" if service.uptime_s is None else show_duration(service.uptime_s),
        str(service.restarts),
        "-" if service.cpu_percent is None else f"{service.cpu_percent:.0f}%",
        "-" if service.memory_bytes is None else show_size(service.memory_bytes),
        "-" if service.requests_per_s is None else f"{service.requests_per_s:.1f}",
        "-" if service.p95_s is None else f"{service.p95_s * 1000:.1f}ms",
        service.reason,
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
