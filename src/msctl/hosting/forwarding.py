"""What a trusted proxy tells of the client: its address and the scheme that it used. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msctl.model.exchange import Field

Trusts = Callable[[str], bool]
"""Whether an address may say who its client is."""

_SCHEMES = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}


def told_scheme(fields: Sequence[Field]) -> str | None:
    """Return the scheme of X-Forwarded-Proto, None without one that is known."""
    for name, value in reversed(fields):
        if name.lower() == b"x-forwarded-proto":
            return _SCHEMES.get(value.strip())
    return None


def told_client(fields: Sequence[Field], client: tuple[str, int], trusts: Trusts) -> tuple[str, int]:
    """Return the client that a trusted peer reports, as uvicorn does."""
    told = b",".join(value for name, value in fields if name.lower() == b"x-forwarded-for").decode("latin-1")
    hops = [hop.strip() for hop in told.split(",") if hop.strip()]
    if not hops:
        return client
    # The nearest hop that is no trusted proxy; the furthest if all are.
    host = next((hop for hop in reversed(hops) if not trusts(_address(hop))), hops[0])
    return _address(host), 0


def _address(hop: str) -> str:
    """Return a hop's address without its port."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
