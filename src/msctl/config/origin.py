"""Where a value came from, and how a complaint about it is worded."""

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


class Origin(NamedTuple):
    """The layer that gave a value: its file and line, and the variable's name, where it has them."""

    layer: Layer
    source: str = ""
    line: int | None = None
    variable: str = ""

    def __str__(self) -> str:
        """As it stands in front of a message and in `config --explain`."""
        place = f"{self.source}:{self.line}" if self.line is not None else self.source
        if self.layer is Layer.ENV_FILE:
            return f"{place}: {self.variable}"
        if self.layer is Layer.VARIABLE:
            return f"variable {self.variable}"
        if self.layer is Layer.FLAG:
            return "command line"
        return place or "default"


DEFAULT = Origin(Layer.DEFAULT)


class Origins:
    """Finds the origin of any path: what was laid over it, else its line in the file."""

    def __init__(self, source: str, text: str, root: Path | None) -> None:
        self.source = source
        self.root = root
        self._text = text
        self._found: Mapping[KeyPath, int] | None = None
        self._overlaid: dict[KeyPath, Origin] = {}

    @property
    def _lines(self) -> Mapping[KeyPath, int]:
        if self._found is None:
            from msctl.config.toml_positions import (
                line_numbers,  # a project's name is read without it
            )

            self._found = line_numbers(self._text)
        return self._found

    def overlay(self, path: KeyPath, origin: Origin) -> None:
        self._overlaid[path] = origin

    def is_known(self, path: KeyPath) -> bool:
        """Whether exactly this path was written somewhere."""
        return path in self._overlaid or path in self._lines

    def of(self, path: KeyPath) -> Origin:
        """The origin of the value at `path`, or of the nearest table around it."""
        for length in range(len(path), 0, -1):
            head = path[:length]
            if head in self._overlaid:
                return self._overlaid[head]
            if head in self._lines:
                return Origin(Layer.FILE, self.source, self._lines[head])
        return Origin(Layer.FILE, self.source)


class Place:
    """A place in the configuration: what a converter is given so that it can complain precisely."""

    __slots__ = ("origins", "path")

    def __init__(self, path: KeyPath, origins: Origins) -> None:
        self.path = path
        self.origins = origins

    def __truediv__(self, part: str | int) -> Place:
        return Place((*self.path, part), self.origins)

    @property
    def dotted(self) -> str:
        return dotted(self.path)

    def error(self, message: str, *, hint: str | None = None) -> ConfigError:
        key = f"{self.dotted}: " if self.path else ""
        return ConfigError(f"{self.origins.of(self.path)}: {key}{message}", hint=hint)


def dotted(path: KeyPath) -> str:
    """`services.users.routes[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text
