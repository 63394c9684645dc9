"""The changes of a stack's instances, for all who follow them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable

from msctl.clock import Clock
from msctl.model.events import Event
from msctl.model.snapshots import ServiceSnapshot
from msctl.telemetry.logs.broadcast import Broadcast


class EventFeed:
    """Passes events on; who begins to follow gets the present state of every instance first."""

    def __init__(self, clock: Clock, services: Callable[[], Iterable[ServiceSnapshot]]) -> None:
        self._clock = clock
        self._services = services
        self._events: Broadcast[Event] = Broadcast()
        self._seq = 0

    def record(self, event: Event) -> None:
        self._seq = event.seq
        self._events.publish(event)

    async def follow(self) -> AsyncIterator[Event]:
        with self._events.subscribe() as feed:
            for event in self._present():
                yield event
            while True:
                for event in (await feed.take())[0]:
                    yield event

    def _present(self) -> list[Event]:
        """The present state of every instance, as events."""
        now = self._clock.time()
        return [
            Event(self._seq, now, service.name, instance.name, instance.state, instance.reason)
            for service in self._services()
            for instance in service.instances
        ]
