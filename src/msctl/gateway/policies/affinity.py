"""Which instance a client is tied to: by a cookie of the gateway's, by a field, or by its address. Pure.

The cookie holds a digest of the instance's name, so it reveals no name and cannot choose anything but a
ready instance of the route. One that names none, because it is old or was tampered with, counts as none.

A field or an address chooses by rendezvous hashing: each instance has a rank for the key, the highest takes
it. An instance that comes or goes moves its own share of the keys and no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

from msctl.gateway.message.headers import Field, first, text
from msctl.gateway.policies.split import cookie
from msctl.model.route_policies import StickySpec

MAX_KEY = 256
"""The characters of a field that choose the instance."""


@lru_cache(maxsize=4096)
def token(service: str, instance: str) -> str:
    """Return the cookie's value for an instance."""
    return blake2b(f"{service}\0{instance}".encode(), digest_size=12).hexdigest()


def key_of(spec: StickySpec, fields: Sequence[Field], client_address: str) -> str | None:
    """Return what ties the client: the cookie's value, the field's, or its address; None without any."""
    if spec.cookie is not None:
        found = cookie(fields, spec.cookie)
        return found[0] if found else None
    if spec.header is not None:
        value = first(fields, spec.header.lower().encode())
        return None if value is None else text(value)[:MAX_KEY]
    return client_address


def tied(spec: StickySpec, key: str, service: str, instances: Sequence[str]) -> int | None:
    """Return the index of the instance that `key` is tied to; None if it is tied to none of these."""
    if spec.cookie is not None:
        return next((i for i, name in enumerate(instances) if token(service, name) == key), None)
    if not instances:
        return None
    hashed = key.encode("utf-8", "surrogateescape")
    return max(range(len(instances)), key=lambda i: _rank(hashed, instances[i]))


def set_cookie(spec: StickySpec, service: str, instance: str, *, secure: bool) -> Field:
    """Return the Set-Cookie that ties the client to an instance until its browser is closed."""
    value = f"{spec.cookie}={token(service, instance)}; Path=/; HttpOnly; SameSite=Lax"
    return b"Set-Cookie", f"{value}; Secure".encode() if secure else value.encode()


def _rank(key: bytes, instance: str) -> bytes:
    return blake2b(key, digest_size=8, salt=blake2b(instance.encode(), digest_size=16).digest()).digest()
