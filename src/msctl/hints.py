"""Hints for a mistyped name."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, if any is close."""
    import difflib  # only a mistake needs it

    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A hint that names the nearest known name, or all of them if none is near."""
    names = sorted(known)
    best = nearest(name, names)
    if best is not None:
        return f'did you mean "{best}"?'
    return f"known here: {', '.join(names)}" if names else None
