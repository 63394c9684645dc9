"""Selects services by name or glob. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from msctl.errors import UnknownServiceError
from msctl.hints import nearest

_GLOB = frozenset("*?[")


def select(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """The services that `names` mean (shell globs allowed), in the order of `known`, each once.

    No name gives no service. Raises UnknownServiceError, with the nearest name, for the first
    that means none.
    """
    chosen: set[str] = set()
    for name in names:
        matches = [other for other in known if other == name]
        if not matches and _GLOB.intersection(name):
            matches = [other for other in known if fnmatchcase(other, name)]
        if not matches:
            raise unknown(name, known)
        chosen.update(matches)
    return [name for name in known if name in chosen]


def unknown(name: str, known: Sequence[str]) -> UnknownServiceError:
    """The error for a name that no service has."""
    near = nearest(name, known)
    has = f"the project has: {', '.join(known)}" if known else "the project has no services"
    return UnknownServiceError(
        f"there is no service {name!r}" if not _GLOB.intersection(name) else f"no service matches {name!r}",
        hint=f"did you mean {near!r}? {has}" if near else has,
    )
