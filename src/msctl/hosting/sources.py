"""The source files of a service within its project, and whether they were edited.

Python imports are followed by parsing, without running code. Other programs consist of the files that
their command names.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from msctl.files import FileTooLargeError, read_bounded
from msctl.model.service_spec import ServiceSpec
from msctl.model.snapshots import Kind

MAX_PARSED = 1024 * 1024
"""The size in bytes up to which the imports of a file are read."""

# Other suffixes may be files that the program writes: a database, a log.
_SOURCES = frozenset(
    ".cjs .go .jar .js .lua .mjs .php .pl .py .rb .sh .ts".split()  # noqa: SIM905 - easier to read
)
_CLOCK_TICK_S = 0.02
"""The resolution of file times, which are those of the kernel's last tick."""


def files_of(spec: ServiceSpec, root: Path) -> frozenset[Path]:
    """Return the source files of a service below `root`; links out of it are not followed."""
    if spec.kind is Kind.REMOTE or spec.static is not None:
        return frozenset()
    if spec.command is not None:
        folder = spec.cwd or root
        named = [folder / word for word in spec.command if word]
        roots = [f for i, f in enumerate(named) if (f.suffix in _SOURCES or i == 0) and _is_file(f)]
        found: set[Path] = set()
        for file in roots:
            found |= _closure([file], file.parent) if file.suffix == ".py" else {file}
        return frozenset(file for file in found if file.is_relative_to(root))
    module = (spec.app or "").partition(":")[0]
    return frozenset(_closure(_modules(root, module), root))


def edited_since(files: Iterable[Path], when: float) -> list[Path]:
    """Return the files written, moved or replaced after `when` (seconds since the epoch)."""
    return sorted(file for file in files if _stamp(file) > when - _CLOCK_TICK_S)


def _stamp(file: Path) -> float:
    try:
        status = file.stat()
    except OSError:
        return 0.0
    # ctime too: a file that was moved or unpacked keeps an older mtime.
    return max(status.st_mtime, status.st_ctime)


def _closure(starts: Iterable[Path], root: Path) -> set[Path]:
    """Return these files and, recursively, those below `root` that they import."""
    found: set[Path] = set()
    todo = list(starts)
    while todo:
        file = todo.pop()
        if file not in found:
            found.add(file)
            todo += [other for name in _imports(file, root) for other in _modules(root, name)]
    return found


def _imports(file: Path, root: Path) -> Iterator[str]:
    """Yield the names that a file imports; names imported `from` a module count as modules too."""
    try:
        tree = ast.parse(read_bounded(file, MAX_PARSED))
        package = file.relative_to(root).parent.parts
    except (OSError, FileTooLargeError, SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *filter(None, [node.module])))
            yield base
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)


def _modules(root: Path, name: str) -> list[Path]:
    """Return the files below `root` that importing `name` reads: packages and the module."""
    found = []
    parts = [part for part in name.split(".") if part]
    for depth in range(1, len(parts) + 1):
        stem = root.joinpath(*parts[:depth])
        for file in (stem / "__init__.py", stem.with_suffix(".py")):
            if _is_file(file):
                found.append(file)
                break
    return found


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except (OSError, ValueError):  # a word of a command may be too long for a path, or contain a NUL
        return False
