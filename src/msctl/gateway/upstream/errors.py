"""How an attempt at an instance fails."""

from __future__ import annotations

from msctl.gateway.message.problems import Problem
from msctl.model.upstream_policy import FailureKind

CLIENT_GONE = "client gone"
"""The stage of a deadline that ended because the client left."""


_KINDS = {
    "connection_refused": FailureKind.CONNECT,
    "connection_timeout": FailureKind.CONNECT,
    "destination_unavailable": FailureKind.CONNECT,
    "destination_ip_unroutable": FailureKind.CONNECT,
    "tls_protocol_error": FailureKind.CONNECT,
    "tls_certificate_error": FailureKind.CONNECT,
    "connection_terminated": FailureKind.RESET,
    "http_protocol_error": FailureKind.MALFORMED,
    "http_response_timeout": FailureKind.DEADLINE,
    "proxy_internal_response": FailureKind.STATUS_5XX,
}
"""Whose failure an error of RFC 9209 is; what is missing is nobody's, as a full pool."""


def failure_kind(problem: Problem) -> FailureKind | None:
    """Return what kind of failure of the instance a problem is, None for none."""
    return _KINDS.get(problem.error or "")


class AttemptError(Exception):
    """An attempt ended without a response to the client.

    `unsent` is true if the instance cannot have received the request, `answered` if bytes of a response
    arrived, `stale` if a reused connection was closed: the next attempt should use a new one.
    `problem` describes the failure to the client.
    """

    def __init__(
        self, problem: Problem, *, unsent: bool = False, answered: bool = False, stale: bool = False
    ) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.unsent = unsent
        self.answered = answered
        self.stale = stale


class BrokenResponseError(Exception):
    """A response failed after it had started: the client's connection was aborted."""

    kind = FailureKind.RESET


class ApplicationFailedError(BrokenResponseError):
    """The application itself failed within its response, which is no failure of the instance."""

    kind = FailureKind.STATUS_5XX
