"""Whether a request comes from a page of our own: what a server on loopback checks of a browser's requests.

Web pages can make a browser connect to loopback, and a foreign name can resolve to it. So the Host must be
one of ours, and requests of pages of another origin are refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::(\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class WebOrigin:
    """The header fields of a request that tell where it comes from; None if absent."""

    hosts: Sequence[str]
    origin: str | None = None
    fetch_site: str | None = None

    @property
    def is_foreign(self) -> bool:
        """Whether the browser says that a page of another site is behind the request."""
        return self.fetch_site not in (None, "same-origin", "none")

    def refusal(self, names: frozenset[str] = frozenset(), *, anywhere: bool = False) -> str | None:
        """Why the request is refused; None if it is not.

        `names` are host names of ours besides loopback's; `anywhere` allows every IP address.
        """
        if len(self.hosts) != 1 or not _is_own_host(self.hosts[0], names, anywhere=anywhere):
            return "this host name is not the server's; use localhost"
        if self.origin is not None and self.origin not in _own_origins(self.hosts[0]):
            return "requests from pages of another origin are refused"
        if self.is_foreign:
            return "requests from pages of another origin are refused"
        return None


def _is_own_host(host: str, names: frozenset[str], *, anywhere: bool) -> bool:
    match = _HOST.fullmatch(host.strip())
    if match is None:
        return False
    name = match[1].lower().strip("[]").removesuffix(".")
    if name == "localhost" or name.endswith(".localhost") or name in names:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    # Unlike a name, an address cannot be rebound to another machine.
    return address.is_loopback or anywhere


def _own_origins(host: str) -> tuple[str, str]:
    """The origins of the page as a browser sends them; https with a proxy in front."""
    return f"http://{host}", f"https://{host}"
