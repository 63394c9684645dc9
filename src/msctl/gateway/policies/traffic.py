"""How the requests of a route are spread: over services, over instances, and in copies. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from msctl.gateway.message.headers import Field
from msctl.gateway.policies.affinity import key_of, set_cookie, tied
from msctl.gateway.policies.split import Chance, Split
from msctl.model.route_policies import MirrorSpec, StickySpec


class Affinity(NamedTuple):
    """What ties one request to an instance. `key` is None if nothing does yet."""

    spec: StickySpec
    key: str | None
    secure: bool

    def pick(self, service: str, instances: Sequence[str]) -> int | None:
        """Return the index of the instance that the client is tied to, None for any."""
        return None if self.key is None else tied(self.spec, self.key, service, instances)

    def cookie(self, service: str, instance: str) -> Field | None:
        """Return the Set-Cookie for the instance that answers, None if the client needs none."""
        if self.spec.cookie is None or self.pick(service, (instance,)) is not None:
            return None
        return set_cookie(self.spec, service, instance, secure=self.secure)


class Traffic(NamedTuple):
    """The rules of one route."""

    split: Split | None
    sticky: StickySpec | None
    mirror: MirrorSpec | None

    def affinity(self, fields: Sequence[Field], client_address: str, scheme: str) -> Affinity | None:
        if self.sticky is None:
            return None
        return Affinity(self.sticky, key_of(self.sticky, fields, client_address), scheme == "https")

    def service(
        self,
        fields: Sequence[Field],
        affinity: Affinity | None,
        chance: Chance,
        instances: Callable[[str], Sequence[str]],
    ) -> str | None:
        """Return the service for a request; None for the route's own.

        A cookie that names an instance keeps its client at that service, unless the request asks for another:
        a page would otherwise come from one version and its scripts from another.
        """
        if self.split is None:
            return None
        choice = self.split.choose(fields, chance, lambda name: bool(instances(name)))
        if choice.forced or affinity is None or affinity.spec.cookie is None:
            return choice.service
        for name in self.split.services:
            if affinity.pick(name, instances(name)) is not None:
                return name
        return choice.service


def traffic_of(split: Split | None, sticky: StickySpec | None, mirror: MirrorSpec | None) -> Traffic | None:
    """Return the rules; None for a route without any."""
    return Traffic(split, sticky, mirror) if split or sticky or mirror else None
