"""Reads the fields of JSON objects and notes what is wrong with them, by JSON path. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from msctl.broker.core.arguments import MAX_NAME
from msctl.broker.protocol.json_tables import JsonTableError, table_from_json
from msctl.broker.protocol.tables import Table

MAX_PROBLEMS = 100
"""Problems that are kept; the others are counted."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at a JSON path; one that is not `fatal` is a warning."""

    path: str
    text: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text


class Problems:
    """Problems in the order in which they were found, the first MAX_PROBLEMS of each kind."""

    def __init__(self) -> None:
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []
        self.count = 0

    def add(self, path: str, text: str, *, fatal: bool = True) -> None:
        self.count += 1
        kept = self.errors if fatal else self.warnings
        if len(kept) < MAX_PROBLEMS:
            kept.append(Problem(path, text, fatal))


class BadEntryError(Exception):
    """A field that is missing or of the wrong type; noted, and its entry is skipped."""


class Entry:
    """One object of the document. The methods note a bad field and raise BadEntryError."""

    def __init__(self, fields: Mapping[str, Any], path: str, problems: Problems) -> None:
        self.fields = fields
        self.path = path
        self._problems = problems

    def bad(self, key: str, text: str) -> BadEntryError:
        self._problems.add(f"{self.path}.{key}" if key else self.path, text)
        return BadEntryError()

    def warn(self, key: str, text: str) -> None:
        self._problems.add(f"{self.path}.{key}" if key else self.path, text, fatal=False)

    def text(self, key: str, default: str | None = None) -> str:
        value = self.fields.get(key, default)
        if value is None:
            raise self.bad(key, "is missing")
        if not isinstance(value, str):
            raise self.bad(key, f"must be a string, not {kind_of(value)}")
        if not is_encodable(value):
            raise self.bad(key, "has half of a surrogate pair, which is no character")
        return value

    def name(self, key: str, default: str | None = None, *, empty: bool = False) -> str:
        """A string that fits AMQP's short strings; an empty one only with `empty`."""
        value = self.text(key, default)
        size = len(value.encode())
        if size > MAX_NAME or (not size and not empty):
            raise self.bad(key, f"takes {0 if empty else 1} to {MAX_NAME} bytes")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.fields.get(key, default)
        if not isinstance(value, bool):
            raise self.bad(key, f"must be true or false, not {kind_of(value)}")
        return value

    def object(self, key: str) -> Mapping[str, Any]:
        value = self.fields.get(key)
        # Erlang's empty list stands for an empty object in documents of RabbitMQ.
        if value is None or value == []:
            return {}
        if not isinstance(value, dict):
            raise self.bad(key, f"must be an object, not {kind_of(value)}")
        return value

    def table(self, key: str) -> Table:
        try:
            return table_from_json(self.object(key))
        except JsonTableError as error:
            raise self.bad(key, str(error)) from None

    def warn_unknown(self, known: Iterable[str]) -> None:
        for key in self.fields.keys() - set(known):
            self.warn(key, "is not known and ignored")


def entries(document: Mapping[str, Any], section: str, problems: Problems) -> Iterator[Entry]:
    """The objects of a section, which is a list."""
    value = document.get(section)
    if value is None:
        return
    if not isinstance(value, list):
        problems.add(section, f"must be a list, not {kind_of(value)}")
        return
    for at, fields in enumerate(value):
        path = f"{section}[{at}]"
        if isinstance(fields, dict):
            yield Entry(fields, path, problems)
        else:
            problems.add(path, f"must be an object, not {kind_of(fields)}")


def is_encodable(text: str) -> bool:
    """Whether a string of JSON is text that AMQP can carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def kind_of(value: object) -> str:
    """The JSON type of a value, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
    return "an object"
