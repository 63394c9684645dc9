"""The files that `msctl init` writes: the course's system, or an example. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from msctl.config.reading.layers import BUILT_IN, package_text
from msctl.config.reading.project_ref import COURSE, FILE_NAME
from msctl.config.render import toml_value
from msctl.errors import UsageError
from msctl.hints import did_you_mean

EXAMPLES = ("shop",)
_SHOP = ("orders.py", "payments.py", "scenario.py")


class _Language(NamedTuple):
    """A language for the shop's users service: the program it needs, the file, the command."""

    program: str
    file: str
    command: str


_LANGUAGES = (
    _Language("node", "users.mjs", "node users.mjs"),
    _Language("go", "users.go", "go run users.go"),
    _Language("python3", "users.py", "python3 users.py"),
)


def render_init(name: str) -> str:
    """A `msctl.toml` of the course's system, commented and ready to edit, for a project of this name."""
    return _renamed(package_text(BUILT_IN), COURSE, name)


def render_example(example: str, name: str, which: Callable[[str], str | None]) -> dict[str, str]:
    """The files of an example, by their path in the folder of the project `name`.

    `which` says where a program is on the machine, as shutil.which does: the example takes the
    first language that is there. Raises UsageError for an unknown example.
    """
    if example not in EXAMPLES:
        raise UsageError(f'unknown example "{example}"', hint=did_you_mean(example, EXAMPLES))
    folder = f"config/examples/{example}"
    users = next((each for each in _LANGUAGES if which(each.program)), _LANGUAGES[-1])
    toml = _renamed(package_text(f"{folder}/{FILE_NAME}"), example, name)
    files = {FILE_NAME: toml.replace(_LANGUAGES[0].command, users.command)}
    return files | {file: package_text(f"{folder}/{file}") for file in (users.file, *_SHOP)}


def _renamed(text: str, old: str, new: str) -> str:
    return text.replace(f'name = "{old}"', f"name = {toml_value(new)}", 1)
