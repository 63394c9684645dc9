"""The request target (RFC 9112 §3.2): parsing and checks, without changing its bytes.

Pure. Paths stay as they were sent, less their `.` elements (`/a/./b`), which name where they stand: apt and
others send them, and no route may be missed by one. Routes are matched against a copy in which only
percent-encoded unreserved characters are decoded, which RFC 3986 §6.2.2.2 defines as equivalent.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f#]")
# Narrower than RFC 3986's reg-name: no sub-delims, since a comma would make a list of hosts.
_AUTHORITY = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9\-._~]|%[0-9A-Fa-f]{2})+)(?::[0-9]*)?", re.ASCII)
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SEPARATORS = re.compile(r"[/\\]|%2[Ff]|%5[Cc]")
_DOTS = re.compile(r"\.|%2[Ee]")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class BadTargetError(Exception):
    """A target that cannot be forwarded; the text says what is wrong."""


class Target(NamedTuple):
    """A parsed target. `path` and `query` are as sent; `query` is None without a `?`.

    `authority` is set for an absolute-form target and overrides Host. `asterisk` is true for the `*`
    of an OPTIONS request about the server as a whole.
    """

    path: str
    query: str | None = None
    authority: str | None = None
    asterisk: bool = False

    @property
    def elements(self) -> tuple[str, ...]:
        """The path's elements, for route matching, with unreserved characters decoded."""
        return path_elements(self.path)

    def origin_form(self) -> str:
        return self.path if self.query is None else f"{self.path}?{self.query}"


def parse_target(raw: str) -> Target:
    """Parse the target of a request line; raises BadTargetError.

    Besides bad syntax it refuses fragments (an upstream might cut them off), user information, schemes
    other than http and https, and dot segments in any encoding but a plain `.`, which is left out, because
    an upstream that resolves them would serve a path that was never routed.
    """
    if _FORBIDDEN.search(raw):
        raise BadTargetError("the request target has a fragment, a space or a control character")
    if raw.startswith("/"):
        return _origin(raw, None)
    if raw == "*":
        return Target("*", asterisk=True)
    scheme, mark, rest = raw.partition("://")
    if not mark or scheme.lower() not in ("http", "https"):
        raise BadTargetError("the request target is neither a path nor an http URL")
    end = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
    authority, origin = rest[:end], rest[end:]
    if not is_authority(authority):
        raise BadTargetError("the request target's host is not valid")
    return _origin(origin if origin.startswith("/") else f"/{origin}", authority)


def _origin(raw: str, authority: str | None) -> Target:
    path, mark, query = raw.partition("?")
    if "." in path or "%" in path:
        path = _without_dots(path)
        check_path(path)
    return Target(path, query if mark else None, authority)


def _without_dots(path: str) -> str:
    """Return a path without its `.` elements (RFC 3986 §5.2.4); one at the end leaves its slash."""
    if "/." not in path:
        return path
    elements = path.split("/")
    if elements[-1] == ".":
        elements[-1] = ""
    return "/".join([element for element in elements if element != "."])


def check_path(path: str) -> None:
    """Raise BadTargetError for a path that could escape the prefix it begins with."""
    if "%" in path:
        if _BAD_ESCAPE.search(path):
            raise BadTargetError("the path has a percent sign that is not followed by two hex digits")
        if "%00" in path:
            raise BadTargetError("the path has an encoded NUL")
    for element in _SEPARATORS.split(path):
        # Some servers strip a parameter (";…") from an element before they resolve dots.
        name = _DOTS.sub(".", re.split(";|%3[Bb]", element, maxsplit=1)[0])
        if name in (".", ".."):
            raise BadTargetError("the path has dot segments")


def path_elements(path: str) -> tuple[str, ...]:
    if "%" in path:
        path = _ESCAPE.sub(_decode_unreserved, path)
    return tuple(path[1:].split("/"))


def _decode_unreserved(match: re.Match[str]) -> str:
    char = chr(int(match[1], 16))
    return char if char in _UNRESERVED else match[0].upper()


def is_authority(value: str) -> bool:
    """Return whether `value` is `host` or `host:port` (RFC 3986 §3.2.2, §3.2.3), without user information."""
    return _AUTHORITY.fullmatch(value) is not None
