"""The source of each configuration value, and errors that name it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from msctl.errors import ConfigError

KeyPath = tuple[str | int, ...]


class Layer(StrEnum):
    """The layers of a configuration; a later one wins."""

    DEFAULT = "default"
    FILE = "file"
    ENV_FILE = "env file"
    VARIABLE = "variable"
    FLAG = "flag"


class ValueSource(NamedTuple):
    """The layer that set a value, with its file, line and variable if it has them."""

    layer: Layer
    source: str = ""
    line: int | None = None
    variable: str = ""

    def __str__(self) -> str:
        """As messages and `config --explain` show it."""
        position = f"{self.source}:{self.line}" if self.line is not None else self.source
        if self.layer is Layer.ENV_FILE:
            return f"{position}: {self.variable}"
        if self.layer is Layer.VARIABLE:
            return f"variable {self.variable}"
        if self.layer is Layer.FLAG:
            return "command line"
        return position or "default"


DEFAULT = ValueSource(Layer.DEFAULT)


class ValueSources:
    """Finds the source of any key: the overlay that set it, else its line in the file."""

    def __init__(self, source: str, text: str, root: Path | None) -> None:
        self.source = source
        self.root = root
        self._text = text
        self._found: Mapping[KeyPath, int] | None = None
        self._overlaid: dict[KeyPath, ValueSource] = {}
        self._interpolated: dict[KeyPath, str] = {}

    @property
    def _lines(self) -> Mapping[KeyPath, int]:
        if self._found is None:
            from msctl.config.toml_positions import (
                line_numbers,  # a project's name is read without it
            )

            self._found = line_numbers(self._text)
        return self._found

    def overlay(self, path: KeyPath, source: ValueSource) -> None:
        self._overlaid[path] = source

    def interpolated(self, path: KeyPath, written: str) -> None:
        """Note that the string at `path` had `${...}`."""
        self._interpolated[path] = written

    def hidden(self, path: KeyPath) -> str | None:
        """What an error shows in place of a value that came from `${...}` or a file of variables."""
        for length in range(len(path), 0, -1):
            head = path[:length]
            if (source := self._overlaid.get(head)) is not None:
                return "another value" if source.layer is Layer.ENV_FILE else None
            if head in self._interpolated:
                return f'another value from "{self._interpolated[head]}"'
        return None

    def is_overlaid(self, path: KeyPath) -> bool:
        """Whether a variable or a flag has replaced the value at `path`, or the one around it."""
        return any(path[:length] in self._overlaid for length in range(1, len(path) + 1))

    def is_known(self, path: KeyPath) -> bool:
        """Whether some layer sets exactly this path."""
        return path in self._overlaid or path in self._lines

    def of(self, path: KeyPath) -> ValueSource:
        """The source of the value at `path`, or of the nearest table around it."""
        for length in range(len(path), 0, -1):
            head = path[:length]
            if head in self._overlaid:
                return self._overlaid[head]
            if head in self._lines:
                return ValueSource(Layer.FILE, self.source, self._lines[head])
        return ValueSource(Layer.FILE, self.source)


class KeyRef:
    """A reference to a key, with which a converter makes errors that name its file and line."""

    __slots__ = ("path", "sources")

    def __init__(self, path: KeyPath, sources: ValueSources) -> None:
        self.path = path
        self.sources = sources

    def __truediv__(self, part: str | int) -> KeyRef:
        return KeyRef((*self.path, part), self.sources)

    @property
    def dotted(self) -> str:
        return dotted(self.path)

    def error(self, message: str, *, hint: str | None = None) -> ConfigError:
        key = f"{self.dotted}: " if self.path else ""
        return ConfigError(f"{self.sources.of(self.path)}: {key}{message}", hint=hint)


def dotted(path: KeyPath) -> str:
    """`services.users.routes[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text
