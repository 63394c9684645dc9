"""Who may see the page, and who may act through it. Pure: decides on a request's header fields.

A web page of any origin can make a browser send requests to loopback, and a name that an attacker
owns can resolve to it. So the name that the browser used must be ours, a request that came from
another origin is refused, and what acts must carry a token that only our own page can read.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hmac import compare_digest

TOKEN_HEADER = "X-Msctl-Token"  # noqa: S105 - the field's name, not the token
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::(\d{1,5}))?")
_LOCAL_NAMES = ("localhost",)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the guard looks at of a request; header fields are None where absent."""

    method: str
    path: str
    hosts: Sequence[str]
    origin: str | None = None
    fetch_site: str | None = None
    fetch_mode: str | None = None
    token: str | None = None
    authorization: str | None = None
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered, for the person who made it."""

    status: int
    reason: str
    challenge: bool = False


@dataclass(frozen=True, slots=True)
class Guard:
    """The rules of one dashboard. `names` are the hosts, besides loopback, under which it is reached;
    `anywhere` says that it listens on other addresses than loopback."""

    token: str = field(repr=False)
    password: str | None = field(default=None, repr=False)
    names: frozenset[str] = frozenset()
    anywhere: bool = False

    def refusal(self, asked: Asked) -> Refusal | None:
        """None for a request that may be answered."""
        if len(asked.hosts) != 1 or not self._is_ours(asked.hosts[0]):
            return Refusal(403, "this address answers to its own name only, such as localhost")
        if asked.origin is not None and asked.origin not in _origins(asked.hosts[0]):
            return Refusal(403, "requests from pages of another origin are refused")
        if asked.fetch_site not in (None, "same-origin", "none") and not _is_navigation(asked):
            return Refusal(403, "requests from pages of another origin are refused")
        if self.password is not None and not self._knows_password(asked.authorization):
            return Refusal(401, "this page wants its password", challenge=True)
        if asked.method not in _SAFE_METHODS:
            if asked.token is None or not compare_digest(asked.token.encode(), self.token.encode()):
                return Refusal(403, "this token is not the running stack's: load the page again")
            if asked.content_type.partition(";")[0].strip().lower() != "application/json":
                return Refusal(415, "what acts is sent as application/json")
        return None

    def _is_ours(self, host: str) -> bool:
        match = _HOST.fullmatch(host.strip())
        if match is None:
            return False
        name = match[1].lower().strip("[]").removesuffix(".")
        if name in _LOCAL_NAMES or name.endswith(".localhost") or name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # An address cannot be made to point elsewhere, as a name can.
        return address.is_loopback or self.anywhere

    def _knows_password(self, authorization: str | None) -> bool:
        """HTTP Basic (RFC 7617) with any user name."""
        scheme, _, encoded = (authorization or "").partition(" ")
        if scheme.lower() != "basic" or self.password is None:
            return False
        try:
            given = base64.b64decode(encoded.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            return False
        return compare_digest(given, self.password.encode())


def _origins(host: str) -> tuple[str, str]:
    """Ours, as a browser would name it; the scheme may be that of a proxy in front."""
    return f"http://{host}", f"https://{host}"


def _is_navigation(asked: Asked) -> bool:
    """A person followed a link to the page itself: it acts on nothing and no other page can read it."""
    return asked.method == "GET" and asked.path == "/" and asked.fetch_mode == "navigate"
