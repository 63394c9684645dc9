"""Who may see the page and act through it. Pure: decides on a request's header fields.

Two kinds of clients must get nothing. Other users of the machine can connect to loopback: so the page needs
the start-up token, which only the stack's user can read; a link with it exchanges it for a cookie, so that it
does not stay in the URL. Web pages can make a browser connect to loopback, and a foreign name can resolve to
it: so the Host must be one of ours, requests of another origin are refused, the cookie is SameSite=Strict,
and an action needs a second token that only our own page can read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from msctl.model.web_origin import WebOrigin
from msctl.secret import Secret

ACTION_HEADER = "X-Msctl-Token"
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_METRICS = "/metrics"


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """The parts of a request that decide on access; fields are None if absent.

    `session` is the cookie's value, and `action_token` the header's.
    """

    method: str
    path: str
    hosts: Sequence[str]
    origin: str | None = None
    fetch_site: str | None = None
    fetch_mode: str | None = None
    session: str | None = None
    action_token: str | None = None
    authorization: str | None = None
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class Denial:
    """The status and the reason of a refused request; `challenge` is the WWW-Authenticate field."""

    status: int
    reason: str
    challenge: str | None = None


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """The rules of one dashboard.

    `token` is the start-up token, None if it is switched off; `action` is the token for actions. `names` are
    the host names besides loopback's; `anywhere` is set if it listens beyond loopback.
    """

    token: Secret | None
    action: Secret
    password: Secret | None = None
    metrics_key: Secret | None = None
    names: frozenset[str] = frozenset()
    anywhere: bool = False

    @property
    def session(self) -> Secret:
        """The cookie's value. Derived from the token: a page stays signed in when the stack restarts."""
        token = "" if self.token is None else self.token.reveal()
        return Secret(hashlib.sha256(b"msctl dashboard session\0" + token.encode()).hexdigest())

    def check(self, request: RequestInfo) -> Denial | None:
        """Return why the request is refused; None if it is allowed."""
        return self.check_origin(request) or self._check_user(request) or self._check_action(request)

    def check_origin(self, request: RequestInfo) -> Denial | None:
        """Refuse foreign hosts and requests of pages of another origin."""
        # A link to the page itself may come from anywhere: it changes nothing.
        site = None if is_navigation(request) else request.fetch_site
        origin = WebOrigin(request.hosts, request.origin, site)
        reason = origin.refusal(self.names, anywhere=self.anywhere)
        return None if reason is None else Denial(403, reason)

    def accepts_token(self, given: str) -> bool:
        """Whether this is the start-up token."""
        return self.token is not None and self.token.matches(given.encode())

    def accepts_password(self, authorization: str | None) -> bool:
        """Check HTTP Basic credentials (RFC 7617) with any user name."""
        credentials = _credentials(authorization, "basic")
        if credentials is None or self.password is None:
            return False
        try:
            password = base64.b64decode(credentials, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return False
        return self.password.matches(password)

    def _check_user(self, request: RequestInfo) -> Denial | None:
        if request.path == _METRICS:
            if self.metrics_key is None and self.password is None and not self.anywhere:
                return None
            key = _credentials(request.authorization, "bearer")
            if self.metrics_key is not None and key is not None and self.metrics_key.matches(key.encode()):
                return None
        if self._accepts_session(request.session):
            return None
        if self.accepts_password(request.authorization):
            return None
        if self.password is not None:
            return Denial(401, "this page needs its password", 'Basic realm="msctl", charset="UTF-8"')
        if self.token is not None:
            challenge = "Bearer" if request.path == _METRICS else None
            return Denial(401, "open the dashboard with the link that 'msctl open' prints", challenge)
        return Denial(401, "/metrics needs its key", "Bearer") if request.path == _METRICS else None

    def _accepts_session(self, cookie: str | None) -> bool:
        return self.token is not None and cookie is not None and self.session.matches(cookie.encode())

    def _check_action(self, request: RequestInfo) -> Denial | None:
        if request.method in _SAFE_METHODS:
            return None
        if request.action_token is None or not self.action.matches(request.action_token.encode()):
            return Denial(403, "the token is not the running stack's: reload the page")
        if request.content_type.partition(";")[0].strip().lower() != "application/json":
            return Denial(415, "an action must be sent as application/json")
        return None


def is_navigation(request: RequestInfo) -> bool:
    """Whether a link to the page itself was followed: it changes nothing, and no other page can read it."""
    return request.method == "GET" and request.path == "/" and request.fetch_mode == "navigate"


def followed_from_elsewhere(request: RequestInfo) -> bool:
    """Whether a link of another site was followed: the browser then sends no SameSite=Strict cookie."""
    return WebOrigin((), fetch_site=request.fetch_site).is_foreign and is_navigation(request)


def is_password_attempt(authorization: str | None) -> bool:
    """Whether the field has HTTP Basic credentials."""
    return _credentials(authorization, "basic") is not None


def _credentials(authorization: str | None, scheme: str) -> str | None:
    given, _, credentials = (authorization or "").partition(" ")
    return credentials.strip() if given.lower() == scheme else None
