"""A string that is never printed by accident: keys, passwords, tokens.

`Secret` is not a `str`, so that formatting, logging, joining and JSON encoding cannot reveal it: they show
`***` or raise TypeError. The value leaves it in two ways only, both easy to search for: `reveal()` and
`matches()`.
"""

from __future__ import annotations

from typing import NoReturn

MASK = "***"


class Secret:
    """A secret string; `repr`, `str` and `format` show `***`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself, for the library or protocol that needs it."""
        return self._value

    def matches(self, given: bytes) -> bool:
        """Compare with the bytes of a request, in time that does not depend on where they differ."""
        from hmac import compare_digest  # loads OpenSSL, which reading a configuration does not need

        return compare_digest(self._value.encode("utf-8", "surrogateescape"), given)

    def __repr__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return self.matches(other._value.encode("utf-8", "surrogateescape"))

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __deepcopy__(self, _memo: object) -> Secret:
        return self

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")
