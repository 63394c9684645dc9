"""Network addresses: where something listens, which of them clash, which stay on this machine."""

from __future__ import annotations

from dataclasses import dataclass

LOOPBACK = "127.0.0.1"
WILDCARDS = frozenset({"0.0.0.0", "::", ""})
"""Hosts that stand for every address of the machine."""
LOCALHOST = frozenset({"localhost", "127.0.0.1", "::1"})


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`: localhost, 127.0.0.0/8 or ::1."""
    host = host.strip("[]").lower()
    if host in LOCALHOST:
        return True
    if not host.startswith("127.") and ":" not in host:
        return False
    import ipaddress  # reading a configuration seldom needs it

    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)  # its is_loopback is False before Python 3.13
    return address.is_loopback if mapped is None else mapped.is_loopback


def host_name(authority: str) -> str:
    """Return the host of an authority (RFC 3986 §3.2), in lower case, without port and final dot."""
    if authority.startswith("["):
        return authority[: authority.find("]") + 1].lower()
    return authority.partition(":")[0].lower().removesuffix(".")


def bracketed(host: str) -> str:
    """Return a host as URLs have it: an IPv6 address in brackets (RFC 3986 §3.2.2), any other as it is."""
    return f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host


def local_host(host: str) -> str:
    """The host at which a program of this machine reaches what listens on `host`."""
    if host in WILDCARDS:
        return "::1" if host == "::" else "127.0.0.1"
    return host


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """host:port, and whether what listens there speaks TLS."""

    host: str
    port: int
    tls: bool = False

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def shown(self) -> str:
        """host:port for plain HTTP, a URL for HTTPS: model.ServiceSnapshot.addresses."""
        return f"https://{self}" if self.tls else str(self)

    @property
    def url(self) -> str:
        """How a program on this machine reaches it over HTTP."""
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{Address(local_host(self.host), self.port)}"

    def overlaps(self, other: Address) -> bool:
        """Whether both cannot be bound at once."""
        hosts = {self.host.strip("[]"), other.host.strip("[]")}
        return self.port == other.port != 0 and (
            len(hosts) == 1 or bool(hosts & WILDCARDS) or ("localhost" in hosts and hosts <= LOCALHOST)
        )
