"""Which hosts a listener answers for, and which pages of a browser may call it. Pure.

A listener on loopback is reachable by every page that the user's browser shows. Two attacks use that:

- DNS rebinding: the page's own name (`evil.test`) is made to resolve to 127.0.0.1, so its scripts read the
  responses as same-origin. Such a request has the Host of the page: it gets 421 (RFC 9110 §15.5.20).
- A cross-site request: a form or a script of the page sends POST to http://localhost:8080. The page cannot
  read the response, but the request has its effect. Browsers mark it with Origin or Sec-Fetch-Site: it
  gets 403. GET, HEAD, OPTIONS and TRACE are safe methods and pass, unless they open a WebSocket.

The hosts of a loopback listener are localhost, *.localhost, the loopback addresses, the hosts that routes
name, and those of the key `hosts` under [gateway]. A listener beyond loopback answers for any host unless
that key is set, and does not check pages: it has clients elsewhere, and its services know which.

Programs without a browser send neither Origin nor Sec-Fetch-Site. Requests that came through a gateway have
a Via field, which a page cannot set (a forbidden request-header of the Fetch standard): the gateway has
checked them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msctl.model.address import bracketed, host_name, is_loopback
from msctl.model.project import Project

KEY = "gateway.hosts"
ANY = "*"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""RFC 9110 §9.2.1."""

_REMEDY = "If it is yours, add it to hosts under [gateway] in msctl.toml."


class HostDenial(NamedTuple):
    """Why a request is refused: the status, and a sentence for the client that names the key."""

    status: int
    detail: str


class HostPolicy:
    """The hosts of one listener; `checks_pages` also refuses cross-site requests."""

    __slots__ = ("_names", "_suffixes", "checks_pages")

    def __init__(self, hosts: Iterable[str], *, checks_pages: bool) -> None:
        """`hosts` are names or addresses, or `*.` and a name for all below it."""
        names = {_normalized(host) for host in hosts}
        self._suffixes = tuple(name[1:] for name in names if name.startswith("*."))
        self._names = frozenset(name for name in names if not name.startswith("*."))
        self.checks_pages = checks_pages

    def allows(self, host: str) -> bool:
        """Return whether a host (lower case, without port) is one of the listener's."""
        if host in self._names or host == "localhost" or host.endswith(".localhost"):
            return True
        if any(host.endswith(suffix) and len(host) > len(suffix) for suffix in self._suffixes):
            return True
        return is_loopback(host)

    def check_host(self, host: str) -> HostDenial | None:
        """Return why a request for `host` is refused; None if it is allowed. HTTP/1.0 may have no host."""
        if not host or self.allows(host):
            return None
        return HostDenial(421, f"This server does not answer for the host {host}. {_REMEDY}")

    def check_page(
        self, method: str, *, upgrade: bool, origins: Sequence[str], fetch_site: str | None
    ) -> HostDenial | None:
        """Return why a request of a page is refused; None if it is allowed.

        `origins` are the values of Origin, usually one or none; `fetch_site` is that of Sec-Fetch-Site.
        """
        if not self.checks_pages or (method in SAFE_METHODS and not upgrade):
            return None
        if origins:
            if all(self._allows_origin(origin) for origin in origins):
                return None
        elif fetch_site != "cross-site":
            return None
        return HostDenial(
            403,
            "Requests from pages of other sites are refused. To allow an origin, set cors on the route, or "
            "add its host to hosts under [gateway] in msctl.toml.",
        )

    def _allows_origin(self, origin: str) -> bool:
        scheme, mark, authority = origin.partition("://")
        return bool(mark) and scheme in ("http", "https") and self.allows(host_name(authority))


def host_policy(listen_host: str, project: Project) -> HostPolicy | None:
    """Return the policy of a listener of `project`; None if it answers for any host."""
    hosts = None if project.gateway is None else project.gateway.hosts
    named = [host for spec in project.services for route in spec.routes for host in route.hosts]
    return policy_of(listen_host, hosts, named)


def policy_of(listen_host: str, hosts: Sequence[str] | None, named: Iterable[str]) -> HostPolicy | None:
    """As `host_policy`, for the value of the key and the hosts that routes name."""
    local = is_loopback(listen_host)
    if ANY in (hosts or ()) or (hosts is None and not local):
        return None
    return HostPolicy([*(hosts or ()), *named], checks_pages=local)


def _normalized(host: str) -> str:
    """A configured host as `host_name` returns it; an IPv6 address may lack its brackets."""
    return host_name(bracketed(host))
