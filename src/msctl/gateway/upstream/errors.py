"""How an attempt at an instance fails."""

from __future__ import annotations

from msctl.gateway.message.problems import Problem

CLIENT_GONE = "client gone"
"""The stage of a deadline that ended because the client left."""


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
