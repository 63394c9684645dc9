"""The tables of `status` and `queues`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msctl.cli.output.table import Cell, Column, table
from msctl.cli.output.terminal import GREEN, RED, STATE_COLOURS, YELLOW, plain
from msctl.cli.output.units import show_duration, show_size, sparkline
from msctl.model.snapshots import (
    BreakerState,
    BrokerSnapshot,
    InstanceSnapshot,
    QueueSnapshot,
    RegistrySnapshot,
    ServiceSnapshot,
    Snapshot,
    StorageSnapshot,
    TargetSnapshot,
)

_REASON = Column("REASON", below=True)
_USAGE = (Column("UPTIME", 2), Column("RESTARTS", 3), Column("CPU", 9), Column("MEMORY", 8))
_SERVICES = (
    Column("NAME"),
    Column("KIND", 5),
    Column("STATE"),
    Column("ADDRESS", 1),
    Column("PID", 4),
    *_USAGE,
    Column("REQ/S", 6),
    Column("P95", 7),
)
_RECENT = Column("LAST SECONDS", 3)
_INSTANCES = (
    Column("INSTANCE"),
    Column("STATE"),
    Column("ADDRESS", 1),
    Column("PID", 4),
    *_USAGE,
    Column("BREAKER", 1),
    Column("IN FLIGHT", 6),
    Column("CONNECTIONS", 7),
    _REASON,
)
_ORIGIN = Column("FROM", 1)
_QUEUES = ("QUEUE", "READY", "UNACKED", "CONSUMERS")
_BREAKER_COLOURS = {
    BreakerState.CLOSED: GREEN,
    BreakerState.HALF_OPEN: YELLOW,
    BreakerState.OPEN: RED,
}


MAX_QUEUES = 20
"""Queues that `status` shows."""


def status_lines(
    snapshot: Snapshot, *, recent: bool = False, broker: bool = True, instances: bool = False
) -> Iterator[str]:
    """Show the project, its services, and the broker with its queues if it lists them.

    `recent` adds a chart of each service's requests in the last seconds; `instances` adds a table of
    every instance as the supervisor and the gateway see it.
    """
    where = "the built-in course system" if snapshot.root is None else plain(snapshot.root)
    up = show_duration(snapshot.uptime_s)
    yield f"project {plain(snapshot.project)} ({where}), pid {snapshot.pid}, up {up}"
    yield ""
    others = [_broker_row(snapshot.broker)] if broker else []
    if broker and snapshot.registry is not None:
        others.append(_registry_row(snapshot.registry))
    rows = [*map(_service_row, snapshot.services), *others]
    if recent:
        charts = [*(sparkline(service.recent) for service in snapshot.services), *("-" for _ in others)]
        rows = [(*row[:-1], chart, row[-1]) for row, chart in zip(rows, charts, strict=True)]
    yield from table((*_SERVICES, *([_RECENT] if recent else []), _REASON), rows)
    if instances:
        yield ""
        yield from instance_lines(snapshot.services)
    if broker and snapshot.faults:
        from msctl.cli.output.faults import fault_lines  # mostly there is none

        yield ""
        yield from fault_lines(snapshot.faults)
    if broker and snapshot.broker.queues:
        yield ""
        yield from _fullest(snapshot.broker.queues)
    if broker and snapshot.broker.storage is not None and snapshot.broker.storage.messages:
        yield ""
        yield _storage_line(snapshot.broker.storage)


def _storage_line(storage: StorageSnapshot) -> str:
    messages = f"{storage.messages:,} message{'' if storage.messages == 1 else 's'}"
    return f"on disk: {messages}, {show_size(storage.bytes)} in {plain(storage.folder)}"


def instance_lines(services: Sequence[ServiceSnapshot]) -> Iterator[str]:
    """Show each instance; a dash in the gateway's columns where the gateway does not send to it."""
    rows = [(one, _instance_row(one)) for service in services for one in service.instances]
    if not any(one.origin for one, _ in rows):
        return table(_INSTANCES, (row for _, row in rows))
    columns = (*_INSTANCES[:-1], _ORIGIN, _INSTANCES[-1])
    return table(columns, ((*row[:-1], one.origin or "here", row[-1]) for one, row in rows))


def _fullest(queues: Sequence[QueueSnapshot]) -> Iterator[str]:
    """Show the queues, or of many those with the most messages, and count the others."""
    if len(queues) <= MAX_QUEUES:
        yield from queue_lines(queues)
        return
    fullest = sorted(queues, key=lambda queue: -((queue.ready or 0) + (queue.unacked or 0)))
    yield from queue_lines(fullest[:MAX_QUEUES])
    rest = sum((queue.ready or 0) + (queue.unacked or 0) for queue in fullest[MAX_QUEUES:])
    more = len(queues) - MAX_QUEUES
    yield f"and {more:,} more queue{'' if more == 1 else 's'} with {rest:,} messages: msctl queues"


def queue_lines(queues: Sequence[QueueSnapshot]) -> Iterator[str]:
    """Show each queue with its messages and consumers, and its virtual host if there are several."""
    if len({queue.vhost for queue in queues}) > 1:
        return table(("VHOST", *_QUEUES), ((queue.vhost, *_queue_row(queue)) for queue in queues))
    return table(_QUEUES, map(_queue_row, queues))


def _queue_row(queue: QueueSnapshot) -> Sequence[Cell]:
    return (queue.name, str(queue.ready), str(queue.unacked), str(queue.consumers))


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


def _broker_row(broker: BrokerSnapshot) -> Sequence[Cell]:
    pid = "-" if broker.pid is None else str(broker.pid)
    state = (broker.state.value, STATE_COLOURS[broker.state])
    return ("broker", broker.mode.value, state, broker.url, pid, *("-",) * 6, broker.reason)


def _registry_row(registry: RegistrySnapshot) -> Sequence[Cell]:
    state = (registry.state.value, STATE_COLOURS[registry.state])
    said = [f"namespace {plain(registry.namespace)}", registry.reason]
    if registry.announced:
        said.insert(1, f"announces {', '.join(registry.announced)} at {registry.advertise}")
    if registry.found:
        said.insert(1, f"{registry.found} found")
    return ("registry", registry.kind, state, registry.url, *("-",) * 7, "; ".join(filter(None, said)))


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
