"""Where something listens."""

from __future__ import annotations

from dataclasses import dataclass

WILDCARDS = frozenset({"0.0.0.0", "::", ""})
"""Hosts that stand for every address of the machine."""


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where something listens, and whether it speaks TLS there."""

    host: str
    port: int
    tls: bool = False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def shown(self) -> str:
        """host:port for plain HTTP, a URL for HTTPS: model.ServiceSnapshot.addresses."""
        return f"https://{self}" if self.tls else str(self)

    @property
    def url(self) -> str:
        """How a program on this machine reaches it over HTTP."""
        scheme = "https" if self.tls else "http"
        if self.host in WILDCARDS:
            return f"{scheme}://{Address('127.0.0.1' if self.host != '::' else '::1', self.port)}"
        return f"{scheme}://{self}"

    def overlaps(self, other: Address) -> bool:
        """Whether both cannot be bound at once."""
        return self.port == other.port != 0 and (
            self.host == other.host or self.host in WILDCARDS or other.host in WILDCARDS
        )
