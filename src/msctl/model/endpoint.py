"""The endpoint of an instance: an address, or a handler in this process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from msctl.model.address import bracketed
from msctl.model.exchange import Handler

if TYPE_CHECKING:
    import ssl


class Target(NamedTuple):
    """An address of a name. `weight` is its share of the requests among those of its priority, and a higher
    `priority` takes some only while no lower one can (RFC 2782)."""

    host: str
    port: int
    weight: float = 1.0
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One ready instance. `handler` takes a request in this process, without a network hop;
    where it is None, `base_url` (scheme://host:port, no path) is where to send it.

    An https `base_url` is verified with `tls`, as `server_name` if that is set. `host_header` replaces the
    client's Host. `addresses` are those of the URL's host, with their ports, if each counts as an instance.
    `weight` is its share of the requests beside other instances; `origin` names the registry in which it was
    found, None for an instance of this stack.
    `life` tells the lives of an instance apart; the registry sets it.
    """

    service: str
    instance: str
    base_url: str | None = None
    handler: Handler | None = None
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    host_header: str | None = None
    addresses: tuple[Target, ...] | None = None
    weight: float = 1.0
    origin: str | None = None
    life: int = 0

    def split(self) -> tuple[Endpoint, ...]:
        """Return an endpoint for each of its `addresses`, or itself without any list of them."""
        if self.addresses is None:
            return (self,)
        parts = urlsplit(self.base_url or "")
        hosts = [target.host for target in self.addresses]
        found = []
        for host, port, weight, _ in self.addresses:
            address = f"{bracketed(host)}:{port}"
            name = address if hosts.count(host) > 1 else host
            url = f"{parts.scheme}://{address}"
            server_name = self.server_name or parts.hostname
            instance = f"{self.instance}@{name}"
            found.append(
                replace(
                    self,
                    instance=instance,
                    base_url=url,
                    server_name=server_name,
                    addresses=None,
                    weight=weight,
                )
            )
        return tuple(found)

    def is_of(self, instance: str) -> bool:
        """Whether it is that instance, or at one of its addresses."""
        if self.origin is not None:
            return self.instance == instance
        return self.instance == instance or self.instance.startswith(f"{instance}@")
