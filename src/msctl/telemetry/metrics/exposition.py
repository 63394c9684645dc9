"""The Prometheus exposition: the live metrics plus those derived from a snapshot.

`render` answers a scrape of the whole stack or of one service.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from msctl.model.snapshots import (
    GATEWAY,
    BrokerSnapshot,
    FaultSnapshot,
    ServiceSnapshot,
    Snapshot,
    State,
    TargetSnapshot,
)
from msctl.telemetry.metrics import protobuf_format, text_format
from msctl.telemetry.metrics.histogram import HistogramFamily
from msctl.telemetry.metrics.received import ReceivedMetrics

MAX_QUEUES = 1000
"""Queues with series of their own; the others are summed under `_OTHER`."""
OTHER = "_OTHER"
_OWNER_LABELS = ("service", "upstream", "server_address")


def render(
    registry: CollectorRegistry,
    snapshot: Snapshot | None,
    *,
    targets: Sequence[TargetSnapshot] = (),
    received: ReceivedMetrics | None = None,
    service: str | None = None,
    accept: str = "",
) -> tuple[bytes, str]:
    """Return the metrics page and its content type, in the format that `accept` (a header) prefers.

    With `service`, only that service's series. Takes tens of milliseconds for a large stack; safe to
    call outside the event loop.
    """
    families = list(_Families(registry, snapshot, targets, received, service).collect())
    if protobuf_format.preferred(accept):
        return protobuf_format.encode(families), protobuf_format.CONTENT_TYPE
    return text_format.encode(families, accept)


class _Families:
    """All metric families of one scrape."""

    def __init__(
        self,
        registry: CollectorRegistry,
        snapshot: Snapshot | None,
        targets: Sequence[TargetSnapshot],
        received: ReceivedMetrics | None,
        service: str | None,
    ) -> None:
        self._registry = registry
        self._snapshot = snapshot
        self._targets = targets
        self._received = received
        self._service = service

    def collect(self) -> Iterator[Metric]:
        families: Iterable[Metric] = self._all()
        for family in families:
            if not isinstance(family, HistogramFamily):
                # The `_created` samples would double the lines of all counters and histograms.
                family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            if self._service is None:
                yield family
            elif mine := _of(family, self._service):
                yield mine

    def _all(self) -> Iterator[Metric]:
        taken = set()
        for family in self._own():
            taken.add(family.name)
            yield family
        if self._received is not None:
            yield from self._received.families(taken)

    def _own(self) -> Iterator[Metric]:
        yield from self._registry.collect()
        if self._snapshot is not None:
            yield from _stack(self._snapshot)
            yield from _services(self._snapshot.services)
            yield from _broker(self._snapshot.broker)
            yield from _faults(self._snapshot.faults)
        if self._targets:
            yield from _pools(self._targets)


def _of(family: Metric, service: str) -> Metric | None:
    """The family with only one service's samples; None if there are none."""
    if isinstance(family, HistogramFamily):
        mine = family.of(_OWNER_LABELS, service)
        return mine if mine.rows else None
    samples = [
        sample
        for sample in family.samples
        if any(sample.labels.get(label) == service for label in _OWNER_LABELS)
    ]
    if not samples:
        return None
    found = Metric(family.name, family.documentation, family.type, family.unit)
    found.samples = samples
    return found


def _stack(snapshot: Snapshot) -> Iterator[Metric]:
    info = GaugeMetricFamily("msctl_info", "The stack; always 1.", labels=("project", "version"))
    info.add_metric((snapshot.project, snapshot.version), 1)
    yield info
    yield GaugeMetricFamily("msctl_uptime_seconds", "Seconds since the stack started.", snapshot.uptime_s)


def _services(services: Sequence[ServiceSnapshot]) -> Iterator[Metric]:
    labels = ("service",)
    restarts = CounterMetricFamily(
        "msctl_service_restarts", "Restarts after an instance exited by itself.", labels=labels
    )
    state = GaugeMetricFamily(
        "msctl_service_state",
        "1 for the current state of the service; other states have no series.",
        labels=("service", "state"),
    )
    up = GaugeMetricFamily(
        "msctl_service_up", "Whether the service is ready: not before it has passed its probe.", labels=labels
    )
    instances = GaugeMetricFamily("msctl_service_instances", "Desired number of instances.", labels=labels)
    ready = GaugeMetricFamily("msctl_service_instances_ready", "Ready instances.", labels=labels)
    memory = GaugeMetricFamily(
        "msctl_service_memory_bytes", "Resident memory of the service's processes.", labels=labels
    )
    for service in services:
        name = (service.name,)
        restarts.add_metric(name, service.restarts)
        state.add_metric((service.name, service.state.value), 1)
        up.add_metric(name, service.state is State.READY)
        instances.add_metric(name, len(service.instances))
        ready.add_metric(name, sum(one.state is State.READY for one in service.instances))
        if service.memory_bytes is not None:
            memory.add_metric(name, service.memory_bytes)
    yield from (restarts, state, up, instances, ready, memory)


def _broker(broker: BrokerSnapshot) -> Iterator[Metric]:
    if broker.state is State.STOPPED:
        return  # this process uses none
    up = GaugeMetricFamily("msctl_broker_up", "Whether the broker answers.", labels=("mode",))
    up.add_metric((broker.mode.value,), broker.state is State.READY)
    yield up
    if broker.connections is not None:
        yield GaugeMetricFamily(
            "msctl_broker_connections", "Client connections to the broker.", broker.connections
        )
    if broker.memory_bytes is not None and broker.memory_limit is not None:
        yield GaugeMetricFamily(
            "msctl_broker_blocked",
            "1 while an alarm (memory, disk) blocks publishers.",
            float(broker.blocked),
        )
        yield GaugeMetricFamily("msctl_broker_memory_bytes", "Memory that messages use.", broker.memory_bytes)
        yield GaugeMetricFamily(
            "msctl_broker_memory_limit_bytes", "Memory above which publishers wait.", broker.memory_limit
        )
    if broker.storage is not None:
        yield GaugeMetricFamily(
            "msctl_broker_stored_messages",
            "Messages in the broker's log, one for each queue.",
            broker.storage.messages,
        )
        yield GaugeMetricFamily(
            "msctl_broker_stored_bytes", "Size of the broker's log on disk.", broker.storage.bytes
        )
    if broker.queues is None:
        return
    labels = ("queue", "vhost")
    gauges = {
        "ready": GaugeMetricFamily(
            "msctl_broker_queue_messages_ready", "Messages ready for delivery.", labels=labels
        ),
        "unacked": GaugeMetricFamily(
            "msctl_broker_queue_messages_unacked",
            "Messages delivered and not yet acknowledged.",
            labels=labels,
        ),
        "consumers": GaugeMetricFamily(
            "msctl_broker_queue_consumers", "Consumers of the queue.", labels=labels
        ),
    }
    counters = {
        "published": CounterMetricFamily(
            "msctl_broker_queue_messages_published", "Messages published to the queue.", labels=labels
        ),
        "delivered": CounterMetricFamily(
            "msctl_broker_queue_messages_delivered", "Messages delivered to consumers.", labels=labels
        ),
    }
    families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {**gauges, **counters}
    for field, family in families.items():
        values = [((queue.name, queue.vhost), getattr(queue, field)) for queue in broker.queues]
        known = [(names, value) for names, value in values if value is not None]
        for names, value in known[:MAX_QUEUES]:
            family.add_metric(names, value)
        if rest := known[MAX_QUEUES:]:
            family.add_metric((OTHER, OTHER), sum(value for _, value in rest))
    yield from families.values()


def _pools(targets: Sequence[TargetSnapshot]) -> Iterator[Metric]:
    labels = ("upstream", "instance")
    in_flight = GaugeMetricFamily(
        "msctl_gateway_target_in_flight", "Requests in flight to an instance.", labels=labels
    )
    connections = GaugeMetricFamily(
        "msctl_gateway_target_connections", "Connections open to an instance.", labels=labels
    )
    waiting = GaugeMetricFamily(
        "msctl_gateway_target_waiting", "Requests waiting for a connection to an instance.", labels=labels
    )
    for target in targets:
        names = (target.service or GATEWAY, target.instance)
        in_flight.add_metric(names, target.in_flight)
        connections.add_metric(names, target.pool_open)
        waiting.add_metric(names, target.pool_waiting)
    yield from (in_flight, connections, waiting)


def _faults(faults: Sequence[FaultSnapshot]) -> Iterator[Metric]:
    if not faults:
        return
    active = GaugeMetricFamily(
        "msctl_fault_active", "1 while a fault is active.", labels=("fault", "kind", "target")
    )
    for fault in faults:
        active.add_metric((fault.id, fault.kind, fault.target), 1)
    yield active
