"""An observer of the gateway that records what it is told, and lets a test wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msctl.model.exchange import Exchange
from msctl.model.snapshots import BreakerState
from tests.unit.gateway.harness import PATIENCE

Event = tuple[object, ...]


class RecordedAttempt:
    traceparent = ""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def finished(
        self, service: str, instance: str, status: int | None, seconds: float, route: str = ""
    ) -> None:
        self._recorder.tell("attempt", service, instance, status)


class RecordedRequest:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    traceparent = f"00-{trace_id}-b7ad6b7169203331-01"

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def finished(self, service: str, route: str, status: int, seconds: float) -> None:
        self._recorder.tell("finished", service, route, status)

    def hosted_attempt(self, method: str, target: str) -> RecordedAttempt:
        self._recorder.tell("attempt started", method, target)
        return RecordedAttempt(self._recorder)

    def remote_attempt(self, method: str, target: str, url: str) -> RecordedAttempt:
        self._recorder.tell("attempt leaves", method, target)
        return RecordedAttempt(self._recorder)


class Recorder:
    """Implements `msctl.gateway.observer.Observer`."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self._next = asyncio.Event()

    def tell(self, *event: object) -> None:
        self.told.append(event)
        self._next.set()

    async def wait(self, kind: str, count: int = 1) -> Event:
        """Wait for the event of a kind that is told as the `count`th, and return it."""
        async with asyncio.timeout(PATIENCE):
            while len(found := [event for event in self.told if event[0] == kind]) < count:
                self._next.clear()
                await self._next.wait()
        return found[count - 1]

    def request_started(self, exchange: Exchange, traceparents: Sequence[str]) -> RecordedRequest:
        self.tell("started", exchange.head.method, exchange.head.target, *traceparents)
        return RecordedRequest(self)

    def stream_finished(self, service: str, route: str, seconds: float) -> None:
        self.tell("stream", service, route, seconds)

    def retried(self, service: str, reason: str) -> None:
        self.tell("retried", service, reason)

    def breaker_changed(self, service: str, instance: str, state: BreakerState) -> None:
        self.tell("breaker", service, instance, state)

    def target_ready(self, service: str, instance: str, ready: bool) -> None:
        self.tell("ready", service, instance, ready)

    def rate_limited(self, route: str) -> None:
        self.tell("limited", route)

    def faulted(self, faults: Sequence[str]) -> None:
        self.tell("faulted", *faults)
