"""What a trusted proxy tells of the client: its address and the scheme that it used. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import unquote_to_bytes

from msctl.model.exchange import Exchange, Field

Trusts = Callable[[str], bool]
"""Whether an address may say who its client is."""

_PREFIX = b"x-forwarded-"
_SCHEMES = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}


class Forwarded:
    """What the X-Forwarded fields of a head tell, for whoever believes them."""

    __slots__ = ("_fields", "_told", "prefix", "scheme")

    def __init__(self, fields: Sequence[Field]) -> None:
        told = {lower: value for name, value in fields if (lower := name.lower()).startswith(_PREFIX)}
        self._fields = fields
        self._told = bool(told)
        self.prefix = unquote_to_bytes(told.get(b"x-forwarded-prefix", b"")).rstrip(b"/")
        self.scheme = _SCHEMES.get(told.get(b"x-forwarded-proto", b"").strip())

    def believed(self, exchange: Exchange, trusts: Trusts) -> bool:
        """Return whether its peer may say so: the gateway in the same process, or a trusted proxy."""
        return exchange.trusted or (self._told and trusts(exchange.client[0]))

    def client(self, exchange: Exchange, trusts: Trusts) -> tuple[str, int]:
        """Return the client that a believed peer reports, as uvicorn does."""
        return exchange.client if exchange.trusted else _client(self._fields, exchange.client, trusts)


def _client(fields: Sequence[Field], client: tuple[str, int], trusts: Trusts) -> tuple[str, int]:
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
