"""How an index holds the bindings of one key. Pure.

There can be a million bindings, and most keys have one: that one is held itself, and a dict only for several.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias, TypeVar

Each = TypeVar("Each")
Held: TypeAlias = Each | dict[Each, None] | None
"""Nothing, one thing, or several in the order in which they were added."""


def with_one(held: Held[Each], one: Each) -> Held[Each]:
    """`held` and one more."""
    if held is None:
        return one
    if isinstance(held, dict):
        held[one] = None
        return held
    return {held: None, one: None}


def without_one(held: Held[Each], one: Each) -> Held[Each]:
    """`held` without one that it has."""
    if not isinstance(held, dict):
        return None
    del held[one]
    return next(iter(held)) if len(held) == 1 else held


def each_of(held: Held[Each]) -> Iterable[Each]:
    if held is None:
        return ()
    return held if isinstance(held, dict) else (held,)
