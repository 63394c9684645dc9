"""The endpoint of an instance: an address, or a handler in this process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msctl.model.exchange import Handler

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One ready instance. `handler` takes a request in this process, without a network hop;
    where it is None, `base_url` (scheme://host:port, no path) is where to send it.

    An https `base_url` is verified with `tls`, as `server_name` if that is set. `host_header` replaces the
    client's Host. `addresses` are those of the URL's host if each counts as an instance.
    """

    service: str
    instance: str
    base_url: str | None = None
    handler: Handler | None = None
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    host_header: str | None = None
    addresses: tuple[str, ...] | None = None

    def split(self) -> tuple[Endpoint, ...]:
        """Return an endpoint for each of its `addresses`, or itself without any list of them."""
        if self.addresses is None:
            return (self,)
        parts = urlsplit(self.base_url or "")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return tuple(
            replace(
                self,
                instance=f"{self.instance}@{address}",
                base_url=f"{parts.scheme}://{f'[{address}]' if ':' in address else address}:{port}",
                server_name=self.server_name or parts.hostname,
                addresses=None,
            )
            for address in self.addresses
        )

    def is_of(self, instance: str) -> bool:
        """Whether it is that instance, or at one of its addresses."""
        return self.instance == instance or self.instance.startswith(f"{instance}@")
