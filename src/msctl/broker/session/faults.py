"""Carries out the faults of messages and connections in the embedded broker. No sockets.

The broker asks at `Broker.faults`, which is None while there is nothing to ask: for each publish, each new
consumer, each new connection. Deliveries pass a `FaultySink`, which stands between queues and channels only
while a fault of deliveries is active.

Invariants: a delivery that is held back has no delivery tag yet, so an acknowledgement of several cannot
include it, and it returns to its queue when its consumer ends. A confirm that was withheld is never included
in another one: such a channel confirms one by one from then on.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Sequence
from itertools import count
from typing import Any, NamedTuple

from msctl.broker.core.broker import Broker
from msctl.broker.core.consumers import QueueConsumer
from msctl.broker.core.messages import Message
from msctl.broker.protocol.properties import read_properties
from msctl.broker.protocol.replies import AmqpError, ReplyCode
from msctl.broker.protocol.tables import MalformedError
from msctl.broker.session.buffers import Outbox
from msctl.broker.session.deliveries import Deliveries, HeldDelivery
from msctl.broker.session.session import Session
from msctl.faults.active import ActiveFault
from msctl.faults.kinds import FaultKind
from msctl.faults.messages import MessageFaults, Names, PublishEffect, concerns

Touched = Callable[[Sequence[str], str], None]
"""Called with the ids of faults and the traceparent of a message that they hit."""


MAX_LATER = 100_000
"""What may be put off at a time; beyond that the earliest happens early, so that memory is bounded."""


class _Later(NamedTuple):
    """Something that a fault has put off."""

    when: float
    order: int
    action: Callable[[], None]


class FaultySink:
    """A channel as queues see it, its deliveries held back as the faults say. Implements Sink."""

    def __init__(self, faults: BrokerFaults, deliveries: Deliveries, outbox: Outbox) -> None:
        self._faults = faults
        self.deliveries = deliveries
        self._outbox = outbox

    def accepts(self, consumer: QueueConsumer) -> bool:
        return self.deliveries.accepts(consumer)

    def cancelled(self, consumer: QueueConsumer) -> None:
        self.deliveries.cancelled(consumer)

    def deliver(
        self,
        consumer: QueueConsumer,
        number: int,
        message: Message,
        redelivered: bool,
        *,
        original: Message | None = None,
    ) -> None:
        self._faults.deliver(
            self._outbox, self.deliveries, HeldDelivery(consumer, number, message, redelivered, original)
        )


class BrokerFaults:
    """The faults of one broker. Implements core.broker.FaultPoint."""

    def __init__(self, broker: Broker, touched: Touched = lambda _ids, _parent: None) -> None:
        self._broker = broker
        self._touched = touched
        self._messages = MessageFaults(())
        self._cuts: tuple[ActiveFault, ...] = ()
        self._later: list[_Later] = []
        self._order = count()
        self._overtaken: dict[object, list[tuple[Deliveries, HeldDelivery]]] = {}
        """Deliveries that wait for the next one of their queue."""
        self._names: dict[Outbox, Collection[str]] = {}
        self._intercepts = False
        self._ids: set[str] = set()

    def set(self, faults: Sequence[ActiveFault]) -> None:
        """Follow the active faults. When one has ended, what was put off happens now."""
        ids = {fault.id for fault in faults}
        if self._ids - ids:
            self._release()
        self._ids = ids
        self._messages = MessageFaults(faults)
        self._cuts = tuple(fault for fault in faults if fault.spec.kind is FaultKind.CUT)
        self._names.clear()
        if self._messages.deliveries is not self._intercepts:
            self._intercepts = self._messages.deliveries
            self._intercept()
        if not self._cuts:
            for session in self._sessions():
                session.frame_budget = None
        active = self._messages.publishes or self._messages.deliveries or bool(self._cuts)
        self._broker.faults = self if active else None

    # --- publishes ----------------------------------------------------------------------------------

    def publish(
        self, outbox: Outbox, exchange: str, queues: Sequence[str], headers: Any, *, confirming: bool
    ) -> PublishEffect | None:
        """Draw what happens to a publish."""
        if not self._messages.publishes:
            return None
        effect = self._messages.publish(
            exchange, queues, lambda: self._names_of(outbox), confirming=confirming
        )
        if effect is not None:
            self._tell(effect.ids, headers)
        return effect

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` after so many seconds, or when the fault ends."""
        if len(self._later) >= MAX_LATER:
            heapq.heappop(self._later).action()
        when = self._broker.clock.monotonic() + seconds
        heapq.heappush(self._later, _Later(when, next(self._order), action))

    # --- deliveries ---------------------------------------------------------------------------------

    def sink(self, deliveries: Deliveries, outbox: Outbox) -> Deliveries | FaultySink:
        """What a new consumer's messages go to."""
        return FaultySink(self, deliveries, outbox) if self._messages.deliveries else deliveries

    def deliver(self, outbox: Outbox, deliveries: Deliveries, held: HeldDelivery) -> None:
        """Deliver a message now, or hold it back."""
        queue = held.consumer.queue
        effect = self._messages.delivery(queue.name, lambda: self._names_of(outbox))
        if effect is None:
            deliveries.deliver_held(held)
            for others, overtaken in self._overtaken.pop(queue, ()):
                others.release(overtaken)
            return
        try:
            self._tell(effect.ids, read_properties(held.message[1]).headers)
        except MalformedError:
            pass
        deliveries.hold(held)
        if effect.overtaken:
            self._overtaken.setdefault(queue, []).append((deliveries, held))
        self.later(effect.delay, lambda: deliveries.release(held))

    def _intercept(self) -> None:
        """Put a sink of ours between all queues and channels, or take it away."""
        for vhost in self._broker.vhosts.values():
            for queue in vhost.queues.values():
                for consumer in queue.consumers:
                    sink = consumer.sink
                    if self._intercepts and isinstance(sink, Deliveries):
                        consumer.sink = FaultySink(self, sink, sink.outbox)
                    elif not self._intercepts and isinstance(sink, FaultySink):
                        consumer.sink = sink.deliveries

    # --- time ---------------------------------------------------------------------------------------

    def next_due(self) -> float | None:
        """When `tick` is due; None for never."""
        return self._later[0].when if self._later else None

    def tick(self, now: float) -> None:
        """Do what is due."""
        later = self._later
        while later and later[0].when <= now:
            heapq.heappop(later).action()
        if not later:
            self._overtaken.clear()

    def _release(self) -> None:
        later, self._later = sorted(self._later), []
        self._overtaken.clear()
        for one in later:
            one.action()

    # --- connections and consumers ------------------------------------------------------------------

    def opened(self, session: Session) -> None:
        """A connection has been opened: it may be one to cut."""
        for fault in self._cuts:
            self._limit(fault, session)

    def begin_cut(self, fault: ActiveFault) -> None:
        """Let the open connections be cut."""
        for session in self._sessions():
            self._limit(fault, session)

    def _limit(self, fault: ActiveFault, session: Session) -> None:
        if concerns(fault, lambda: names_of(session)) and fault.strikes():
            frames, budget = fault.spec.frames, session.frame_budget
            session.frame_budget = frames if budget is None else min(frames, budget)

    def close_channels(self, fault: ActiveFault) -> None:
        """Close channels that consume from the queue, or all of the connections."""
        error = f"closed by the fault {fault.id}"
        for session in self._sessions():
            names = names_of(session)
            for channel in session.channels:
                queues = [each.queue.name for each in channel.deliveries.consumers.values()]
                if channel.closing or not concerns(fault, _given(names), queues=queues):
                    continue
                if fault.strikes():
                    session.close_channel(channel, AmqpError(ReplyCode.PRECONDITION_FAILED, error, method=0))

    def cancel_consumers(self, fault: ActiveFault) -> None:
        """Cancel consumers as a queue that moves to another node does."""
        for session in self._sessions():
            names = names_of(session)
            for channel in session.channels:
                for consumer in list(channel.deliveries.consumers.values()):
                    queues = (consumer.queue.name,)
                    if concerns(fault, _given(names), queues=queues) and fault.strikes():
                        channel.deliveries.cancel(consumer)

    def _sessions(self) -> list[Session]:
        return [session for session in self._broker.sessions if isinstance(session, Session)]

    def _names_of(self, outbox: Outbox) -> Collection[str]:
        found = self._names.get(outbox)
        if found is None:
            session = next((each for each in self._sessions() if each.outbox is outbox), None)
            found = self._names[outbox] = () if session is None else names_of(session)
        return found

    def _tell(self, ids: Sequence[str], headers: Any) -> None:
        parent = (headers or {}).get(b"traceparent")
        if parent is not None and isinstance(parent[1], bytes):
            self._touched(ids, parent[1].decode("latin-1"))


def _given(names: Collection[str]) -> Names:
    return lambda: names


def names_of(session: Session) -> Collection[str]:
    """The names of a connection for a fault: the client's own, the name of its sockets, its user."""
    given = session.login.client_properties.get(b"connection_name")
    own = given[1].decode(errors="replace") if given is not None and isinstance(given[1], bytes) else ""
    return tuple(name for name in (own, session.name, session.user) if name)
