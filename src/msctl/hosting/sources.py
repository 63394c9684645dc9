"""Which files a service is made of, as far as they lie in its project, and whether they were edited.

A Python file leads to what it imports, by the text of its import statements: nothing is run. Other
programs are the files that their command names.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from msctl.model.project import ServiceSpec

LARGEST = 1024 * 1024
"""Bytes; a longer file is watched, but not read for what it imports."""

# A command may name files that the program itself writes: a database, a log.
_SOURCES = frozenset(
    ".cjs .go .jar .js .lua .mjs .php .pl .py .rb .sh .ts".split()  # noqa: SIM905 - a list to be read
)
_CLOCK_TICK_S = 0.02
"""A file's time is that of the kernel's last tick, which may lie before the moment of its writing."""


def files_of(spec: ServiceSpec, root: Path) -> frozenset[Path]:
    """The source files of a service of the project in `root`; links are not followed out of it."""
    if spec.url is not None:
        return frozenset()
    if spec.command is not None:
        folder = spec.cwd or root
        named = [folder / word for word in spec.command if word]
        starts = [f for i, f in enumerate(named) if (f.suffix in _SOURCES or i == 0) and _is_file(f)]
        found: set[Path] = set()
        for file in starts:
            found |= _closure([file], file.parent) if file.suffix == ".py" else {file}
        return frozenset(file for file in found if file.is_relative_to(root))
    module = (spec.app or "").partition(":")[0]
    return frozenset(_closure(_modules(root, module), root))


def edited_since(files: Iterable[Path], when: float) -> list[Path]:
    """Those that have been written, moved here or replaced after `when` (seconds since the epoch)."""
    return sorted(file for file in files if _stamp(file) > when - _CLOCK_TICK_S)


def _stamp(file: Path) -> float:
    try:
        status = file.stat()
    except OSError:
        return 0.0
    # The time of its content may be older than its coming: it was moved here, or unpacked.
    return max(status.st_mtime, status.st_ctime)


def _closure(starts: Iterable[Path], root: Path) -> set[Path]:
    """These files and all below `root` that they import, and so on."""
    found: set[Path] = set()
    todo = list(starts)
    while todo:
        file = todo.pop()
        if file not in found:
            found.add(file)
            todo += [other for name in _imports(file, root) for other in _modules(root, name)]
    return found


def _imports(file: Path, root: Path) -> Iterator[str]:
    """The names that a file imports, with each name taken `from` a module as if it were one too."""
    try:
        if file.stat().st_size > LARGEST:
            return
        tree = ast.parse(file.read_bytes())
        package = file.relative_to(root).parent.parts
    except (OSError, SyntaxError, ValueError, RecursionError):
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
    """The files that importing `name` reads below `root`: its packages' and its own."""
    found = []
    parts = [part for part in name.split(".") if part]
    for depth in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:depth])
        for file in (place / "__init__.py", place.with_suffix(".py")):
            if _is_file(file):
                found.append(file)
                break
    return found


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except (OSError, ValueError):  # a word of a command may be too long for a name, or hold a NUL
        return False
