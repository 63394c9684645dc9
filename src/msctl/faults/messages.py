"""Which faults hit a message on its way into and out of a broker. Pure.

The vocabulary that the embedded broker and the simulation share: a publish and a delivery each have an
effect, drawn from the seed of the faults that concern them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from msctl.faults.active import ActiveFault
from msctl.faults.kinds import FaultKind, TargetType

PUBLISH = frozenset(
    {
        FaultKind.CONFIRM_DELAY,
        FaultKind.CONFIRM_LOST,
        FaultKind.NACK,
        FaultKind.MESSAGE_LOST,
        FaultKind.DUPLICATE,
    }
)
DELIVERY = frozenset({FaultKind.DELIVERY_DELAY, FaultKind.REORDER})
_NEEDS_CONFIRMS = frozenset({FaultKind.CONFIRM_DELAY, FaultKind.CONFIRM_LOST, FaultKind.NACK})


class PublishEffect(NamedTuple):
    """What happens to one publish. `lost` drops the message and its confirm, `nack` drops it and says so."""

    ids: tuple[str, ...]
    lost: bool = False
    nack: bool = False
    copies: int = 1
    confirm_lost: bool = False
    confirm_delay: float = 0.0


class DeliveryEffect(NamedTuple):
    """What happens to one delivery: it waits `delay` seconds, or until `overtaken` by the next one."""

    ids: tuple[str, ...]
    delay: float
    overtaken: bool = False


Names = Callable[[], Collection[str]]
"""The names of a connection, found only where a fault asks for them."""


class MessageFaults:
    """The active faults of messages."""

    def __init__(self, faults: Iterable[ActiveFault]) -> None:
        faults = tuple(faults)
        self._publish = tuple(fault for fault in faults if fault.spec.kind in PUBLISH)
        self._delivery = tuple(fault for fault in faults if fault.spec.kind in DELIVERY)

    @property
    def publishes(self) -> bool:
        """Whether publishes may be hit."""
        return bool(self._publish)

    @property
    def deliveries(self) -> bool:
        """Whether deliveries may be hit."""
        return bool(self._delivery)

    def publish(
        self, exchange: str, queues: Sequence[str], names: Names, *, confirming: bool
    ) -> PublishEffect | None:
        """Draw what happens to a message for these queues; None leaves it alone."""
        effect = PublishEffect(())
        for fault in self._publish:
            kind = fault.spec.kind
            if kind in _NEEDS_CONFIRMS and not confirming:
                continue
            if not concerns(fault, names, queues=queues, exchange=exchange) or not fault.strikes():
                continue
            effect = effect._replace(ids=(*effect.ids, fault.id))
            if kind is FaultKind.CONFIRM_DELAY:
                effect = effect._replace(confirm_delay=effect.confirm_delay + fault.delay())
            elif kind is FaultKind.CONFIRM_LOST:
                effect = effect._replace(confirm_lost=True)
            elif kind is FaultKind.NACK:
                effect = effect._replace(nack=True)
            elif kind is FaultKind.MESSAGE_LOST:
                effect = effect._replace(lost=True)
            else:
                effect = effect._replace(copies=2)
        return effect if effect.ids else None

    def delivery(self, queue: str, names: Names) -> DeliveryEffect | None:
        """Draw what happens to a message that leaves a queue; None leaves it alone."""
        ids: list[str] = []
        delay, overtaken = 0.0, False
        for fault in self._delivery:
            if not concerns(fault, names, queues=(queue,)) or not fault.strikes():
                continue
            ids.append(fault.id)
            delay += fault.delay()
            overtaken = overtaken or fault.spec.kind is FaultKind.REORDER
        return DeliveryEffect(tuple(ids), delay, overtaken) if ids else None


def concerns(
    fault: ActiveFault, names: Names, *, queues: Collection[str] = (), exchange: str | None = None
) -> bool:
    """Whether a fault is about one of these queues, this exchange or this connection."""
    target = fault.spec.target
    if target.type is TargetType.BROKER:
        return True
    if target.type is TargetType.QUEUE:
        return target.name in queues
    if target.type is TargetType.EXCHANGE:
        return target.name == exchange
    return any(fnmatchcase(name, target.name) for name in names())
