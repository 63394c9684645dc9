"""The gateway's own error responses: problem documents (RFC 9457) and Proxy-Status (RFC 9209). Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

from msctl.gateway.message.headers import Fields

CONTENT_TYPE = b"application/problem+json"
TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    414: "URI Too Long",
    417: "Expectation Failed",
    421: "Misdirected Request",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
    508: "Loop Detected",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """An error response of the gateway.

    `detail` is a sentence for people; `error` a Proxy-Status error type (RFC 9209 §2.3), if one fits;
    `service`, `instance` and `attempt` say where it happened. `retry_after` is in seconds. `close`
    ends the client's connection after the response, because the next request cannot be found in it.
    """

    status: int
    detail: str
    error: str | None = None
    service: str | None = None
    instance: str | None = None
    attempt: int | None = None
    retry_after: float | None = None
    close: bool = False
    fields: tuple[tuple[bytes, bytes], ...] = ()
    extra: dict[str, object] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return TITLES.get(self.status, "Error")

    def at(self, attempt: int) -> Problem:
        """Return a copy for that attempt."""
        return replace(self, attempt=attempt)

    def body(self, hop: str, request_id: str) -> bytes:
        document: dict[str, object] = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": f"urn:msctl:request:{request_id}",
            "hop": hop,
        }
        members = {
            "service": self.service,
            "service_instance": self.instance,
            "attempt": self.attempt,
            "reason": self.error,
        }
        document |= {key: value for key, value in members.items() if value is not None}
        document |= self.extra
        return json.dumps(document, ensure_ascii=False).encode() + b"\n"

    def headers(self, hop: str) -> Fields:
        """Return the fields of this response, Content-Type first."""
        fields: Fields = [(b"Content-Type", CONTENT_TYPE), (b"Cache-Control", b"no-store")]
        if self.error is not None:
            fields.append((b"Proxy-Status", self._proxy_status(hop)))
        if self.retry_after is not None:
            fields.append((b"Retry-After", str(max(1, -int(-self.retry_after // 1))).encode()))
        return [*fields, *self.fields]

    def _proxy_status(self, hop: str) -> bytes:
        parts = [hop, f"error={self.error}"]
        if self.instance is not None:
            parts.append(f"next-hop={_string(self.instance)}")
        parts.append(f"details={_string(self.detail)}")
        return "; ".join(parts).encode("ascii")


class ProblemError(Exception):
    """Ends a request with a problem document."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.status}: {problem.detail}")
        self.problem = problem


def _string(value: str) -> str:
    """Return a structured-field string (RFC 9651 §3.3.3): printable ASCII, quoted."""
    printable = "".join(c if " " <= c <= "~" else "?" for c in value)
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'
