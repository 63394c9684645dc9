"""Who runs: each callback and task of a simulation belongs to a party, and ends with its life.

A party's code runs with the context variable `current`; what it schedules inherits it. When it crashes, its
life is over: nothing that was scheduled in it runs any more, and its tasks are forgotten without being
cancelled, as a killed process runs no `finally`.
"""

from __future__ import annotations

from contextvars import ContextVar


class Life:
    """One life of a party, from its start to its crash or its end."""

    __slots__ = ("alive", "party")

    def __init__(self, party: str) -> None:
        self.party = party
        self.alive = True


current: ContextVar[Life | None] = ContextVar("msctl_simulated_party", default=None)


def current_party(default: str) -> str:
    """The name of the party whose code runs."""
    life = current.get()
    return default if life is None else life.party
