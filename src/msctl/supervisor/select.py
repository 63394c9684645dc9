"""Which services a command line means: names and globs, or an error with the nearest name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from msctl.errors import UnknownServiceError


def select(patterns: Iterable[str], known: Sequence[str]) -> list[str]:
    """The known names that any pattern matches, in their own order, each once.

    Raises UnknownServiceError for the first pattern that matches nothing.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        matches = [name for name in known if fnmatchcase(name, pattern)]
        if not matches:
            raise unknown_service(pattern, known)
        chosen.update(matches)
    return [name for name in known if name in chosen]


def unknown_service(name: str, known: Sequence[str]) -> UnknownServiceError:
    """The error for `name`, with the nearest known one."""
    from difflib import get_close_matches  # costs an import that only an error needs

    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UnknownServiceError(
        f"no service is called {name!r}", hint=f"{hint}the services are: {', '.join(known)}"
    )
