"""What the broker tells about itself: totals, and its queues a slice at a time."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Mapping
from dataclasses import dataclass

from msctl.broker.core.broker import Broker
from msctl.broker.core.queues import Queue
from msctl.model.snapshots import QueueSnapshot, StorageSnapshot

QUEUES_PER_TURN = 1_000


@dataclass(frozen=True, slots=True)
class BrokerStats:
    """Statistics of the broker. Counters start when the server is built.

    `memory_bytes` counts the messages. `blocked` is whether publishers wait, because messages take more than
    `memory_limit` or for another alarm: `alarms` has each that is on, with its reason.
    `storage` is None without a log.
    """

    connections: int
    channels: int
    messages: int
    memory_bytes: int
    memory_limit: int
    published: int
    delivered: int
    acked: int
    blocked: bool
    alarms: Mapping[str, str]
    storage: StorageSnapshot | None = None
    management: str | None = None
    """The URL of the management API."""


async def queue_snapshots(broker: Broker) -> tuple[QueueSnapshot, ...]:
    """All queues by virtual host and name, collected over several turns of the loop."""
    found: list[QueueSnapshot] = []
    for vhost in broker.vhosts.values():
        parts = []
        queues = list(vhost.queues.values())
        for at in range(0, len(queues), QUEUES_PER_TURN):
            parts.append(sorted(queues[at : at + QUEUES_PER_TURN], key=_name))
            await asyncio.sleep(0)
        for at, queue in enumerate(heapq.merge(*parts, key=_name), 1):
            if not queue.deleted:
                found.append(_queue_snapshot(queue))
            if at % QUEUES_PER_TURN == 0:
                await asyncio.sleep(0)
    return tuple(found)


def _name(queue: Queue) -> str:
    return queue.name


def _queue_snapshot(queue: Queue) -> QueueSnapshot:
    return QueueSnapshot(
        queue.name,
        queue.ready.count,
        queue.unacked,
        len(queue.consumers),
        published=queue.published,
        delivered=queue.delivered,
        vhost=queue.host.name,
    )
