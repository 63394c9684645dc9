"""The parts of an export: files, notices, options, kind. Plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

from msctl.config.value_source import ValueSource
from msctl.errors import ConfigError, UsageError
from msctl.model.project import Project


@dataclass(frozen=True, slots=True)
class File:
    """A file to write; `path` is relative to the export's folder, with `/` as separator."""

    path: str
    text: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Notice:
    """A key of msctl.toml that the target cannot express, or treats differently."""

    key: str
    text: str


Item: TypeAlias = File | Notice


class ExportError(ConfigError):
    """The project cannot be exported to this target; the message names the key."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The options of `msctl export`; None, empty or False means the kind's default.

    `executable` is the path of msctl on systemd's machine, `directory` the project's folder there.
    `targets` are host:port pairs for Prometheus, `listen` is nginx's port, `host` the Ingress' host, and
    `gateway_api` the Gateway of an HTTPRoute, as NAME or NAMESPACE/NAME; with `native_routes` it leads to the
    services themselves. The caller sets `context`, the path
    from the export's folder to the project's, `folder`, the path back, `definitions`, the content of
    broker.definitions, `running_definitions`, those of the project's running embedded broker, `sources`,
    where each key comes from, and `lock_files`, the file with the dependencies of each service in Node or Go.
    """

    image: str | None = None
    registry: str | None = None
    tag: str | None = None
    namespace: str | None = None
    host: str | None = None
    gateway_api: str | None = None
    native_routes: bool = False
    ingress_class: str | None = None
    tls_secret: str | None = None
    monitoring: bool = False
    listen: int | None = None
    targets: tuple[str, ...] = ()
    executable: str | None = None
    directory: str | None = None
    context: str = "."
    folder: str = "."
    definitions: Mapping[str, Any] | None = None
    running_definitions: Mapping[str, Any] | None = None
    sources: Mapping[str, ValueSource] = field(default_factory=dict)
    lock_files: Mapping[str, str] = field(default_factory=dict)

    def given(self) -> list[str]:
        """List the options that the user gave."""
        set_by_caller = {"context", "folder", "definitions", "running_definitions", "sources", "lock_files"}
        return [
            option.name
            for option in fields(self)
            if option.name not in set_by_caller and getattr(self, option.name) != option.default
        ]


@dataclass(frozen=True, slots=True)
class ExportKind:
    """One target; `folder` is the default folder of its files."""

    name: str
    summary: str
    render: Callable[[Project, ExportOptions], Iterator[Item]]
    options: frozenset[str] = frozenset()
    folder: str = "."

    def check(self, options: ExportOptions) -> None:
        """Raise UsageError for an option that this kind does not use."""
        for name in options.given():
            if name not in self.options:
                takes = ", ".join(f"--{flag(option)}" for option in sorted(self.options))
                raise UsageError(
                    f"--{flag(name)} has no effect on {self.name}",
                    hint=f"its options are {takes}" if takes else "it has no options",
                )


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of an export."""

    files: tuple[File, ...]
    notices: tuple[Notice, ...]


def flag(option: str) -> str:
    """Return the option's name on the command line."""
    return {"targets": "target"}.get(option, option).replace("_", "-")


def collect(items: Iterable[Item]) -> Exported:
    """Separate files from notices; each notice once."""
    files: list[File] = []
    notices: dict[Notice, None] = {}
    for item in items:
        if isinstance(item, File):
            files.append(item)
        else:
            notices[item] = None
    return Exported(tuple(files), tuple(notices))
