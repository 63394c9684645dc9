"""Which peers may say who their client is, by the variable that uvicorn and gunicorn read."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping

_DEFAULT = "127.0.0.1,::1"


def trusted_proxies(env: Mapping[str, str]) -> Callable[[str], bool]:
    """Return the test for an address: loopback, or what FORWARDED_ALLOW_IPS lists; `*` is everyone."""
    words = [word.strip() for word in env.get("FORWARDED_ALLOW_IPS", _DEFAULT).split(",")]
    if "*" in words:
        return lambda _address: True
    names, networks = {word for word in words if word}, []
    for word in names:
        try:
            networks.append(ipaddress.ip_network(word, strict=False))
        except ValueError:
            continue  # compared as text
    known: dict[str, bool] = {}

    def trusts(address: str) -> bool:
        found = known.get(address)
        if found is None:
            if len(known) > 1000:
                known.clear()
            found = known[address] = address in names or _within(address, networks)
        return found

    return trusts


def _within(address: str, networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in network for network in networks)
