"""Who may see the page and act through it. Pure: decides on a request's header fields.

Any web page can make a browser send requests to loopback, and a foreign name can resolve to it. So
the Host must be one of ours, requests of another origin are refused, and an action needs a token that only
our own page can read.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hmac import compare_digest

from msctl.secret import Secret

TOKEN_HEADER = "X-Msctl-Token"  # noqa: S105 - the field's name, not the token
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::(\d{1,5}))?")
_LOCAL_NAMES = ("localhost",)


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """The parts of a request that decide on access; header fields are None if absent."""

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
class Denial:
    """The status and the reason of a refused request; `challenge` asks the browser for the password."""

    status: int
    reason: str
    challenge: bool = False


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """The rules of one dashboard.

    `names` are the host names besides loopback's; `anywhere` is set if it listens beyond loopback.
    """

    token: str = field(repr=False)
    password: Secret | None = None
    names: frozenset[str] = frozenset()
    anywhere: bool = False

    def check(self, request: RequestInfo) -> Denial | None:
        """Return why the request is refused; None if it is allowed."""
        if len(request.hosts) != 1 or not self._is_own_host(request.hosts[0]):
            return Denial(403, "this host name is not the dashboard's; use localhost")
        if request.origin is not None and request.origin not in _own_origins(request.hosts[0]):
            return Denial(403, "requests from pages of another origin are refused")
        if request.fetch_site not in (None, "same-origin", "none") and not _is_navigation(request):
            return Denial(403, "requests from pages of another origin are refused")
        if self.password is not None and not self._has_password(request.authorization):
            return Denial(401, "this page needs its password", challenge=True)
        if request.method not in _SAFE_METHODS:
            if request.token is None or not compare_digest(request.token.encode(), self.token.encode()):
                return Denial(403, "the token is not the running stack's: reload the page")
            if request.content_type.partition(";")[0].strip().lower() != "application/json":
                return Denial(415, "an action must be sent as application/json")
        return None

    def _is_own_host(self, host: str) -> bool:
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
        # Unlike a name, an address cannot be rebound to another machine.
        return address.is_loopback or self.anywhere

    def _has_password(self, authorization: str | None) -> bool:
        """Check HTTP Basic credentials (RFC 7617) with any user name."""
        scheme, _, encoded = (authorization or "").partition(" ")
        if scheme.lower() != "basic" or self.password is None:
            return False
        try:
            password = base64.b64decode(encoded.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            return False
        return self.password.matches(password)


def _own_origins(host: str) -> tuple[str, str]:
    """The origins of the page as a browser sends them; https with a proxy in front."""
    return f"http://{host}", f"https://{host}"


def _is_navigation(request: RequestInfo) -> bool:
    """Whether a link to the page itself was followed: it changes nothing, and no other page can read it."""
    return request.method == "GET" and request.path == "/" and request.fetch_mode == "navigate"
