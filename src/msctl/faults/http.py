"""Which faults hit a request. Pure: carrying them out is the gateway's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msctl.faults.active import ActiveFault
from msctl.faults.kinds import FaultKind, TargetType
from msctl.faults.spec import FaultSpec, When

Field = tuple[bytes, bytes]


class BodyPace(NamedTuple):
    """How a response's body is sent: pieces of `size` bytes with `pause` seconds before each.

    With `cut_after` the connection is aborted after so many bytes.
    """

    size: int = 65536
    pause: float = 0.0
    cut_after: int | None = None


class HttpEffect(NamedTuple):
    """What happens to one request. `status` None forwards it, 0 resets it; `ids` are the faults that hit."""

    ids: tuple[str, ...]
    delay: float = 0.0
    status: int | None = None
    when: When = When.BEFORE
    body: BodyPace | None = None


PIECES_PER_S = 20
"""How often a limited body is sent on, at most."""


class HttpFaults:
    """The active faults of one address: what the gateway asks for each attempt at an instance."""

    def __init__(self, faults: Iterable[ActiveFault]) -> None:
        self._faults = tuple(faults)

    def __bool__(self) -> bool:
        return bool(self._faults)

    def effect(
        self, route: str | None, service: str, instance: str, fields: Sequence[Field]
    ) -> HttpEffect | None:
        """Draw what happens to a request; None leaves it alone. `route` is None off the gateway's routes.

        Of several that abort, the first one decides; delays add up, and the slowest body wins.
        """
        ids: list[str] = []
        delay, status, when = 0.0, None, When.BEFORE
        body: BodyPace | None = None
        for fault in self._faults:
            spec = fault.spec
            if (
                not _concerns(spec, route, service, instance)
                or not _matches(spec, fields)
                or not fault.strikes()
            ):
                continue
            ids.append(fault.id)
            if spec.kind is FaultKind.DELAY:
                delay += fault.delay()
            elif spec.kind is FaultKind.ABORT:
                if status is None:
                    status, when = spec.status, spec.when
            else:
                body = _slower(body, pace_of(spec))
        return HttpEffect(tuple(ids), delay, status, when, body) if ids else None


def pace_of(spec: FaultSpec) -> BodyPace:
    """Return how a fault of the body's kinds sends it."""
    if spec.kind is FaultKind.BANDWIDTH:
        size = max(1, spec.rate // PIECES_PER_S)
        return BodyPace(size, size / spec.rate)
    if spec.kind is FaultKind.TRUNCATE_BODY:
        return BodyPace(cut_after=spec.bytes)
    return BodyPace(max(1, spec.bytes), spec.delay)


def _slower(one: BodyPace | None, other: BodyPace) -> BodyPace:
    if one is None:
        return other
    slow = min(one, other, key=lambda each: each.size / each.pause if each.pause else float("inf"))
    cuts = [each.cut_after for each in (one, other) if each.cut_after is not None]
    return slow._replace(cut_after=min(cuts, default=None))


def _concerns(spec: FaultSpec, route: str | None, service: str, instance: str) -> bool:
    target = spec.target
    if target.type is TargetType.ROUTE:
        return target.name == route
    return target.name == (service if target.type is TargetType.SERVICE else instance)


def _matches(spec: FaultSpec, fields: Sequence[Field]) -> bool:
    for name, value in spec.headers:
        wanted = name.encode()
        if not any(
            key.lower() == wanted and (value is None or text.decode("latin-1") == value)
            for key, text in fields
        ):
            return False
    return True


class HttpFaultPoint:
    """Where a gateway asks: `active` is None while no fault concerns it."""

    __slots__ = ("active", "routed")

    def __init__(self, *, routed: bool = True) -> None:
        """`routed` is whether the gateway has the project's routes; service addresses have none."""
        self.active: HttpFaults | None = None
        self.routed = routed

    def set(self, faults: Iterable[ActiveFault]) -> None:
        found = HttpFaults(
            fault for fault in faults if self.routed or fault.spec.target.type is not TargetType.ROUTE
        )
        self.active = found if found else None
