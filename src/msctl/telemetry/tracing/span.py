"""A finished span as it is kept: cheap to make, converted only when it is read.

Names and attributes of requests are those of OpenTelemetry's stable HTTP conventions. The query of a URL is
left out: it may hold secrets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol
from urllib.parse import quote, urlsplit

from msctl.model.traces import Span, SpanEvent, SpanKind

LONGEST_PATH = 200
OTHER = "_OTHER"
"""The method of a request whose own one is unknown: clients cannot create names or label values."""
NO_RESPONSE = "no_response"
"""The `error.type` of an attempt that nobody answered."""
KNOWN_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "QUERY"}
)

Attributes = Mapping[str, str | int | float | bool]
_NO_ATTRIBUTES: Attributes = {}


class HttpRequest(NamedTuple):
    """What is known of the request of a span, as the server or the gateway has it at hand.

    `route` is the pattern that matched, empty for none and for a client's span. `url` is the base URL of the
    instance that a client's span asks, `resent` how often the same request was sent before.
    """

    method: str
    target: str
    route: str = ""
    scheme: str = ""
    server: tuple[str, int] = ("", 0)
    client: str = ""
    version: tuple[int, int] | None = None
    url: str = ""
    resent: int = 0

    @property
    def name(self) -> str:
        """`METHOD route`, or the method alone: never the path, of which there are many."""
        method = self.method if self.method in KNOWN_METHODS else "HTTP"
        return f"{method} {self.route}" if self.route else method

    def attributes(self) -> dict[str, str | int | float | bool]:
        method, path = self.method, _path(self.target)
        found: dict[str, str | int | float | bool] = {"http.request.method": method}
        if method not in KNOWN_METHODS:
            found["http.request.method"] = OTHER
            found["http.request.method_original"] = method[:LONGEST_PATH]
        if self.route:
            found["http.route"] = self.route
        if self.url:
            base = urlsplit(self.url)
            host = base.netloc.rpartition("@")[2]
            found["url.full"] = f"{base.scheme}://{host}{path}"
            found["server.address"] = base.hostname or ""
            found["server.port"] = base.port or (443 if base.scheme == "https" else 80)
            if self.resent:
                found["http.request.resend_count"] = self.resent
            return found
        found["url.path"] = path
        if self.scheme:
            found["url.scheme"] = self.scheme
        if self.server[0]:
            found["server.address"], found["server.port"] = self.server
        if self.client:
            found["client.address"] = self.client
        if self.version is not None:
            found["network.protocol.version"] = "{}.{}".format(*self.version)
        return found


def _path(target: str) -> str:
    """The path of a request target, which may be an absolute URL; bytes above 0x7F as URLs have them."""
    path = target.partition("?")[0]
    if not path.startswith("/") and "://" in path:
        path = "/" + path.partition("://")[2].partition("/")[2]
    if not path.isascii():
        path = quote(path.encode("utf-8", "surrogateescape"), safe="/%:@!$&'()*+,;=~")
    return path[:LONGEST_PATH]


class EndedSpan(NamedTuple):
    """A finished span. Cheap to create, because most are never read.

    A span of a request has that for a name, and is named and described when it is read.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str | HttpRequest
    service: str
    kind: SpanKind
    start: float
    duration_s: float
    error: bool
    status: int | None = None
    instance: str = ""
    attributes: Attributes = _NO_ATTRIBUTES
    events: tuple[SpanEvent, ...] = ()
    message: str = ""

    def described(self) -> dict[str, str | int | float | bool]:
        """The attributes, with OpenTelemetry's names."""
        if isinstance(self.name, str):
            attributes = dict(self.attributes)
        else:
            attributes = {**self.name.attributes(), **self.attributes}
            if self.error and self.events:
                attributes["error.type"] = self.events[0].attributes.get("exception.type", str(self.status))
            elif self.status is None:
                attributes["error.type"] = NO_RESPONSE
        if self.status is not None:
            attributes["http.response.status_code"] = self.status
            if self.error:
                attributes.setdefault("error.type", str(self.status))
        if self.instance and self.kind is not SpanKind.CLIENT:
            attributes["service.instance.id"] = self.instance
        elif self.instance and not isinstance(self.name, str):
            attributes["service.peer.instance.id"] = self.instance
        return attributes

    def to_span(self) -> Span:
        """Convert to the model's Span."""
        return Span(
            self.trace_id,
            self.span_id,
            self.parent_id,
            self.title,
            self.service,
            self.kind,
            self.start,
            self.duration_s,
            self.error,
            self.described(),
            self.events,
            self.message,
        )

    def spans(self) -> Iterable[EndedSpan]:
        return (self,)

    def notable(self, slow_s: float) -> bool:
        return self.error or self.duration_s >= slow_s

    @property
    def title(self) -> str:
        return self.name if isinstance(self.name, str) else self.name.name


class SpanGroup(Protocol):
    """Spans of one trace that ended together; created only when they are read."""

    @property
    def trace_id(self) -> str: ...

    def spans(self) -> Iterable[EndedSpan]: ...

    def notable(self, slow_s: float) -> bool:
        """Whether one of them is an error or took at least `slow_s` seconds."""
        ...
