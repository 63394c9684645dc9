"""Reads the layers of a configuration: the file, `.env`, variables and flags.

The only module of config that reads files. It yields one raw tree and the source of each value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from msctl.config.problems import Problems
from msctl.config.reading.project_ref import ENV_FILE_NAME, LARGEST_FILE, ProjectFile, read_project_file
from msctl.config.schema.all_tables import SINGLE, TABLES
from msctl.config.schema.service_keys import SERVICE
from msctl.config.schema.value_type import describe
from msctl.config.value_source import KeyPath, KeyRef, Layer, ValueSource, ValueSources
from msctl.errors import ConfigError
from msctl.files import FileTooLargeError
from msctl.hints import did_you_mean, nearest
from msctl.model.service_spec import Reference
from msctl.model.variables import assigned

BUILT_IN = "course.toml"

_LATE = frozenset({"env", "command"})
SHELLS = frozenset({"sh", "ash", "bash", "dash", "fish", "ksh", "zsh"})
"""Programs whose scripts are left to them: nothing is filled in at the start."""
# Common names of other tools; msctl's own variable wins within the same layer.
_ALIASES = {"AMQP_URL": ("broker", "url")}
_AT = r" ?\(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$"

Tree = dict[str, Any]


class Document(NamedTuple):
    """A configuration file as text. `root` is the project's folder, None for the built-in system."""

    text: str
    display: str
    source: str
    root: Path | None


def document(file: ProjectFile | None, cwd: Path) -> Document:
    """Read the project's file, or the built-in course system. Raises ConfigError if it cannot be read."""
    if file is None:
        return Document(package_text(BUILT_IN), BUILT_IN, f"built-in {BUILT_IN}", None)
    display = _display(file.path, cwd)
    return Document(_read(file, display), display, str(file.path), file.path.parent)


def tree(source: Document) -> Tree:
    """Parse the file. Raises ConfigError with line and column for invalid TOML."""
    import tomllib  # `msctl` starts quicker without it where no file is read

    try:
        return tomllib.loads(source.text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(_AT, str(error))
        reason = re.sub(_AT, "", str(error))
        lines = source.text.split("\n")
        line, column = (at["line"], at["column"]) if at and at["line"] else (len(lines), len(lines[-1]) + 1)
        hint = (
            'strings need quotes: port = 8080, but host = "127.0.0.1"' if reason == "Invalid value" else None
        )
        raise ConfigError(
            f"{source.display}:{line}:{column}: invalid TOML: {reason[:1].lower()}{reason[1:]}", hint=hint
        ) from None
    except RecursionError:
        raise ConfigError(f"{source.display}: its arrays or tables are nested too deeply") from None


class Variables(NamedTuple):
    """The environment over the variables of `.env`; `from_file` has the latter with their lines."""

    env: Mapping[str, str]
    from_file: Mapping[str, tuple[str, int]]
    file: str

    def get(self, name: str) -> str | None:
        if name in self.env:
            return self.env[name]
        return self.from_file[name][0] if name in self.from_file else None

    def layers(self) -> Iterator[tuple[Mapping[str, str], Layer]]:
        yield {name: value for name, (value, _) in self.from_file.items()}, Layer.ENV_FILE
        yield self.env, Layer.VARIABLE

    def source(self, name: str, layer: Layer) -> ValueSource:
        if layer is Layer.ENV_FILE:
            return ValueSource(layer, self.file, self.from_file[name][1], name)
        return ValueSource(layer, variable=name)


def variables(
    project: ProjectFile | None, env: Mapping[str, str], env_file: Path | None, cwd: Path
) -> Variables:
    """The environment and the given `.env`, else the one beside the project's file, if any."""
    if env_file is not None:
        file = ProjectFile(cwd / env_file, found=False)
    elif project is not None and (beside := project.path.with_name(ENV_FILE_NAME)).is_file():
        file = ProjectFile(beside, project.found)
    else:
        return Variables(env, {}, "")
    from msctl.config.reading.dotenv import DotenvError, parse

    display = _display(file.path.absolute(), cwd)
    try:
        return Variables(env, parse(_read(file, display), env), display)
    except DotenvError as error:
        raise ConfigError(f"{display}:{error.line}: {error.message}") from None


def file_variables(paths: Iterable[Path], ref: KeyRef, given: Variables, cwd: Path) -> dict[str, str]:
    """The variables of a service's `env_file`, a later file over an earlier one. Raises ConfigError."""
    from msctl.config.reading.dotenv import DotenvError, parse

    found: dict[str, str] = {}
    for path in paths:
        display = _display(path, cwd)
        try:
            parsed = parse(_read(ProjectFile(path, found=False), display), given.env)
        except DotenvError as error:
            raise ConfigError(f"{display}:{error.line}: {error.message}") from None
        except ConfigError as error:
            raise ref.error(error.message, hint=error.hint) from None
        found |= {name: value for name, (value, _) in parsed.items()}
    return found


def interpolate(
    raw: Tree, top: KeyRef, given: Variables, problems: Problems
) -> tuple[Tree, tuple[Reference, ...]]:
    """Replace every `${VARIABLE}` in the tree's strings; keys for which that fails are left out.

    In a service's `env` and `command`, the names that msctl assigns when the service starts stay. Returns the
    strings that were replaced too.
    """
    services = raw.get("services")
    late = assigned(services) if isinstance(services, dict) else frozenset()
    references: list[Reference] = []

    def walk(value: Any, ref: KeyRef) -> Any:
        if isinstance(value, dict):
            found = {}
            for name, item in value.items():
                with problems.noted():
                    found[name] = walk(item, ref / name)
            return found
        if isinstance(value, list):
            return [walk(item, ref / index) for index, item in enumerate(value)]
        if isinstance(value, str) and "$" in value:
            is_late = _is_late(ref.path)
            is_filled = is_late and not _is_for_shell(services, ref.path)
            expanded = _expanded(value, ref, given, late if is_late else frozenset(), is_filled=is_filled)
            if (
                reference := _reference(value, expanded, ref.path, late if is_late else frozenset())
            ) is not None:
                top.sources.interpolated(ref.path, value)
                references.append(reference)
            return expanded
        return value

    replaced: Tree = walk(raw, top)
    return replaced, tuple(references)


def _reference(written: str, value: str, path: KeyPath, late: frozenset[str]) -> Reference | None:
    """The reference in a string, if it names more than what msctl assigns (`${USERS_URL}`)."""
    from msctl.config.reading.interpolate import references

    names = {name: must for name, must in references(written) if name not in late}
    if not names:
        return None
    required = frozenset(name for name, must in names.items() if must)
    return Reference(path, written, value, frozenset(names), required)


def _is_late(path: KeyPath) -> bool:
    """Whether the value at `path` may hold variables that are known only when the service starts."""
    return len(path) > 2 and path[0] == "services" and path[2] in _LATE


def _is_for_shell(services: Any, path: KeyPath) -> bool:
    """Whether the value at `path` is a command that a shell reads, which is not filled in at the start."""
    table = services.get(path[1]) if isinstance(services, dict) else None
    if path[2] != "command" or not isinstance(table, dict):
        return False
    command: Any = table.get("command")
    program = command.partition(" ")[0] if isinstance(command, str) else str([*(command or ()), ""][0])
    return bool(table.get("shell")) or program.rpartition("/")[2] in SHELLS


def _expanded(value: str, ref: KeyRef, given: Variables, deferred: frozenset[str], *, is_filled: bool) -> str:
    """Expand `${...}`. What a variable gave is escaped in a value that is filled in at the start."""
    from msctl.config.reading.interpolate import InterpolationError, expand

    def escaped(name: str) -> str | None:
        found = given.get(name)
        return None if found is None else found.replace("$", "$$")

    try:
        return expand(value, escaped if is_filled else given.get, deferred)
    except InterpolationError as error:
        raise ref.error(error.message, hint=_unset_hint(error.variable)) from None


def _unset_hint(variable: str | None) -> str:
    if variable is None:
        return 'write "$$" for a dollar sign'
    return (
        f"set {variable} in the environment or in {ENV_FILE_NAME}, or write ${{{variable}:-default}}; "
        "variables that a service gets when it starts, such as $PORT, belong into its env or command"
    )


def overlay_variables(raw: Tree, sources: ValueSources, given: Variables) -> None:
    """Overlay `.env`, then the environment: every variable that names a key of the tree.

    `MSCTL_*` variables that name no key are ignored: they may belong to options of the command line.
    """
    names = key_variables(raw)
    for found, layer in given.layers():
        for name, path in (*_ALIASES.items(), *names.items()):
            if found.get(name):
                _set(raw, path, found[name])
                sources.overlay(path, given.source(name, layer))


def overlay_flags(raw: Tree, sources: ValueSources, overrides: Mapping[str, str]) -> None:
    """Overlay the flags of the command line. Raises ConfigError for an unknown key."""
    known = {".".join(path): path for path in key_variables(raw).values()}
    for key, value in overrides.items():
        if key not in known:
            raise ConfigError(f"command line: {key}: unknown key", hint=did_you_mean(key, known))
        _set(raw, known[key], value)
        sources.overlay(known[key], ValueSource(Layer.FLAG))


def key_variables(raw: Tree) -> dict[str, tuple[str, ...]]:
    """The `MSCTL_*` name of every key that a string can set, for the services in the tree."""
    tables = [("_".join(path), path, table) for path, table in SINGLE.items()]
    services = raw.get("services")
    if isinstance(services, dict):
        tables += [(name, ("services", name), SERVICE) for name in services]
    return {
        variable(owner, key.name): (*path, key.name)
        for owner, path, table in tables
        for key in table.all_keys()
        if not key.type.is_table
    }


def variable(owner: str, key: str) -> str:
    """`MSCTL_<SECTION or SERVICE>_<KEY>`."""
    return f"MSCTL_{env_name(owner)}_{env_name(key)}"


def env_name(name: str) -> str:
    """A service's name as part of a variable's: `user-api` → `USER_API`."""
    return name.upper().replace("-", "_")


def unknown_variables(raw: Tree, given: Variables) -> list[tuple[str, str]]:
    """`MSCTL_<SERVICE>_...` and the like that set nothing, each with the name that was probably meant.

    Only names that begin as a table's or a service's do, and go on much as one of its keys.
    """
    known = key_variables(raw)
    suffixes: dict[str, list[str]] = {}
    for name, path in known.items():
        suffix = env_name(path[-1])
        suffixes.setdefault(name.removesuffix(suffix), []).append(suffix)
    unknown = []
    for name in sorted({*given.env, *given.from_file} - set(known)):
        prefix = max((prefix for prefix in suffixes if name.startswith(prefix)), key=len, default="")
        if prefix:
            meant = nearest(name.removeprefix(prefix), suffixes[prefix])
            if meant is not None:
                unknown.append((name, prefix + meant))
    return unknown


def check_tables(raw: Tree, top: KeyRef, problems: Problems) -> Tree:
    """Return the known tables; an unknown one, and a value where a table is expected, is a problem."""
    for name, value in raw.items():
        if name not in TABLES:
            problems.add((top / name).error("unknown table", hint=did_you_mean(name, TABLES)))
        elif not isinstance(value, dict):
            problems.add((top / name).error(f"expected a table, found {describe(value)}"))
    return {name: value for name, value in raw.items() if name in TABLES and isinstance(value, dict)}


def package_text(path: str) -> str:
    """A text file of the package, by its path below `msctl/`."""
    # As importlib.resources would, which takes longer to import than all of this package; the loader
    # reads from an archive too.
    import msctl

    loader: Any = msctl.__loader__
    content: bytes = loader.get_data(str(Path(msctl.__path__[0]) / path))
    return content.decode("utf-8")


def _set(raw: Tree, path: KeyPath, value: str) -> None:
    table = raw
    for part in path[:-1]:
        inner = table.setdefault(str(part), {})
        if not isinstance(inner, dict):
            return  # reading the file's own value will say what is wrong with it
        table = inner
    table[str(path[-1])] = value


def _read(file: ProjectFile, display: str) -> str:
    try:
        data = read_project_file(file, LARGEST_FILE)
    except FileNotFoundError:
        raise ConfigError(f"{display}: no such file") from None
    except FileTooLargeError:
        raise ConfigError(f"{display}: is larger than {LARGEST_FILE // 1024**2} MiB") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"{display}: cannot be read: {reason}") from None
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{display}:{line}: is not UTF-8", hint="save the file as UTF-8") from None


def _display(path: Path, cwd: Path) -> str:
    try:
        return str(path.relative_to(cwd.absolute()))
    except ValueError:
        return str(path)
