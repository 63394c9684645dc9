"""What an export is made of: files, notices, the options it was asked with, and its kind. Plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from typing import TypeAlias

from msctl.errors import ConfigError, UsageError
from msctl.model.project import Project


@dataclass(frozen=True, slots=True)
class File:
    """A file to write: `path` is relative to the export's folder, with `/` between its parts."""

    path: str
    text: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Notice:
    """What the target cannot express, or does differently; `key` is the key of msctl.toml it is about."""

    key: str
    text: str


Item: TypeAlias = File | Notice


class ExportError(ConfigError):
    """The project cannot be exported to this target; the message names the key."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What the user asked for beyond the project; None (or empty, or False) means the kind's own default.

    `executable` is the path of msctl on the machine that systemd runs it on, `directory` the
    project's folder there. `targets` are host:port pairs for Prometheus, `listen` the port of nginx,
    `host` the name under which the system is reached, and `gateway_api` the Gateway to which an
    HTTPRoute is attached. The caller fills in where the files go: `context` is the way from the
    export's folder to the project's, and `folder` the way back.
    """

    image: str | None = None
    namespace: str | None = None
    host: str | None = None
    gateway_api: str | None = None
    monitoring: bool = False
    listen: int | None = None
    targets: tuple[str, ...] = ()
    executable: str | None = None
    directory: str | None = None
    context: str = "."
    folder: str = "."

    def given(self) -> list[str]:
        """The names of the options that are not at their default, but for what the caller fills in."""
        filled = {"context", "folder"}
        return [
            field.name
            for field in fields(self)
            if field.name not in filled and getattr(self, field.name) != field.default
        ]


@dataclass(frozen=True, slots=True)
class ExportKind:
    """One target: `folder` is where its files go unless the user says otherwise."""

    name: str
    summary: str
    render: Callable[[Project, ExportOptions], Iterator[Item]]
    options: frozenset[str] = frozenset()
    folder: str = "."

    def check(self, options: ExportOptions) -> None:
        """Raises UsageError for an option that means nothing to this kind."""
        for name in options.given():
            if name not in self.options:
                takes = ", ".join(f"--{flag(option)}" for option in sorted(self.options))
                raise UsageError(
                    f"--{flag(name)} means nothing to {self.name}",
                    hint=f"it takes {takes}" if takes else "it takes no options of its own",
                )


@dataclass(frozen=True, slots=True)
class Exported:
    """All that one export gives."""

    files: tuple[File, ...]
    notices: tuple[Notice, ...]


def flag(option: str) -> str:
    """The option's name on the command line."""
    return {"targets": "target"}.get(option, option).replace("_", "-")


def collect(items: Iterable[Item]) -> Exported:
    """The files and notices of an export, each notice once."""
    files: list[File] = []
    notices: dict[Notice, None] = {}
    for item in items:
        if isinstance(item, File):
            files.append(item)
        else:
            notices[item] = None
    return Exported(tuple(files), tuple(notices))
