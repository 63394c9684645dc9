"""The type of a configuration value, and types made of other types: choices and lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, NamedTuple

from msctl.config.problems import Problems
from msctl.config.value_source import KeyRef
from msctl.hints import did_you_mean

_LONGEST_SHOWN = 60


class MismatchError(Exception):
    """A value of the wrong type; `note` replaces the type's own message.

    With `is_redacted`, the note tells what is wrong without a secret that the value may hold.
    """

    def __init__(
        self, note: str | None = None, *, hint: str | None = None, is_redacted: bool = False
    ) -> None:
        super().__init__(note)
        self.note = note
        self.hint = hint
        self.is_redacted = is_redacted


class Type(NamedTuple):
    """One type of value.

    `expected` is the phrase after "expected" in a message. `parse` takes the raw value and its key; it
    raises MismatchError, or ConfigError for a part of it. `show` turns the parsed value back into TOML. A
    table cannot be given as a string, so no variable sets it.
    """

    expected: str
    parse: Callable[[object, KeyRef], Any]
    show: Callable[[Any], object] = lambda value: value
    is_table: bool = False

    def read(self, raw: object, ref: KeyRef) -> Any:
        """The parsed value. Raises ConfigError that names the key, the expected type and the value found."""
        try:
            return self.parse(raw, ref)
        except MismatchError as error:
            hidden = ref.sources.hidden(ref.path)
            if hidden is not None and not error.is_redacted:  # it may be a password in the wrong place
                before, shown, _ = (error.note or "").partition(describe(raw))
                message = before + hidden if shown else f"expected {self.expected}, found {hidden}"
                raise ref.error(message) from None
            message = error.note or f"expected {self.expected}, found {describe(raw)}"
            raise ref.error(message, hint=error.hint) from None


def describe(raw: object) -> str:
    """A raw value as messages show it, truncated."""
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, str):
        if len(raw) > _LONGEST_SHOWN:
            return f'"{raw[:_LONGEST_SHOWN]}…"'
        return f'"{raw}"'
    if isinstance(raw, dict):
        return "a table"
    if isinstance(raw, list):
        return "an empty list" if not raw else "a list"
    return str(raw)


def choice(options: type[StrEnum]) -> Type:
    names = [option.value for option in options]
    expected = ", ".join(f'"{name}"' for name in names[:-1]) + f' or "{names[-1]}"'

    def parse(raw: object, _ref: KeyRef) -> StrEnum:
        if not isinstance(raw, str):
            raise MismatchError
        try:
            return options(raw.lower())
        except ValueError:
            note = f"expected {expected}, found {describe(raw)}"
            raise MismatchError(note, hint=did_you_mean(raw, names)) from None

    return Type(expected, parse, show=lambda value: value.value)


def items_of(raw: object) -> list[object]:
    """The elements of a list; a string (from a variable) is split at commas."""
    if isinstance(raw, str):
        return [part.strip() for part in raw.split(",") if part.strip()]
    if isinstance(raw, list):
        return raw
    raise MismatchError


def list_of(element: Type) -> Callable[[object, KeyRef], tuple[Any, ...]]:
    def parse(raw: object, ref: KeyRef) -> tuple[Any, ...]:
        return read_each(items_of(raw), ref, element.read)

    return parse


def read_each(items: Iterable[object], ref: KeyRef, read: Callable[[object, KeyRef], Any]) -> tuple[Any, ...]:
    """Read the elements of a list. Raises the ConfigErrors of all of them."""
    problems, found = Problems(), []
    for index, item in enumerate(items):
        with problems.noted():
            found.append(read(item, ref / index))
    problems.check()
    return tuple(found)


def one_of(*options: str | int) -> Type:
    """A type of a few values without an enumeration in the model."""
    expected = ", ".join(describe(option) for option in options[:-1]) + f" or {describe(options[-1])}"

    def parse(raw: object, _ref: KeyRef) -> str | int:
        for option in options:
            if str(raw) == str(option) and not isinstance(raw, bool):
                return option
        raise MismatchError

    return Type(expected, parse)
