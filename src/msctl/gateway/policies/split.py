"""Which of several services gets a request of a route: weights, and a canary. Pure.

A field or a cookie that asks for the canary is obeyed even if the canary cannot answer: whoever tests it
must not take the stable service's answer for the canary's. A service chosen by chance is passed over while
it has no instance, so that a stopped canary costs nobody a request.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from msctl.gateway.message.headers import Field, text, values
from msctl.model.route_policies import CanarySpec
from msctl.model.route_spec import RouteSpec

NEVER = "never"
"""The value of the canary's field or cookie that asks for the stable service."""

Chance = Callable[[], float]
"""Returns a random number from 0 up to, but not including, 1."""


class Choice(NamedTuple):
    """The service for a request. `forced` says that the request itself asked for it."""

    service: str
    forced: bool = False


class Split:
    """Chooses the service for each request of a route."""

    def __init__(self, route: RouteSpec) -> None:
        weights = dict(route.weights) or {route.service: 1}
        self._canary = route.canary
        self._stable = tuple(name for name, weight in weights.items() if weight)
        self._steps = tuple(itertools.accumulate(weight for weight in weights.values() if weight))
        names = (*self._stable, *((route.canary.service,) if route.canary is not None else ()))
        self.services: tuple[str, ...] = tuple(dict.fromkeys(names))
        """Every service that can be chosen."""

    def choose(self, fields: Sequence[Field], chance: Chance, ready: Callable[[str], bool]) -> Choice:
        """Return the service for a request; `ready` says whether a service can take one."""
        canary = self._canary
        if canary is not None:
            wanted = asked(canary, fields)
            if wanted:
                return Choice(canary.service, forced=True)
            if wanted is None and canary.share and chance() < canary.share and ready(canary.service):
                return Choice(canary.service)
        if len(self._stable) == 1:
            return Choice(self._stable[0])
        chosen = self._stable[bisect.bisect(self._steps, chance() * self._steps[-1])]
        if ready(chosen):
            return Choice(chosen)
        return Choice(next((name for name in self._stable if ready(name)), chosen))


def split_of(route: RouteSpec) -> Split | None:
    """Return the split of a route; None if all requests go to its own service."""
    return Split(route) if route.weights or route.canary is not None else None


def asked(canary: CanarySpec, fields: Sequence[Field]) -> bool | None:
    """Return whether the request asks for the canary; None if it does not say."""
    given: list[str] = []
    if canary.header is not None:
        given += (text(value) for value in values(fields, canary.header.lower().encode()))
    if canary.cookie is not None:
        given += cookie(fields, canary.cookie)
    for value in given:
        if value == canary.value:
            return True
        if value == NEVER:
            return False
    return None


def cookie(fields: Sequence[Field], name: str) -> list[str]:
    """Return the values of a cookie (RFC 6265 §5.4), in order."""
    found: list[str] = []
    for line in values(fields, b"cookie"):
        for pair in text(line).split(";"):
            key, mark, value = pair.strip(" \t").partition("=")
            if mark and key == name:
                found.append(value.strip('"'))
    return found
