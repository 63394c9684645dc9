"""Commands for `sh` in a container, whose variables fill in what the files do not hold. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from msctl.export.kind import ExportError

_SPECIAL = re.compile(r'[\\"`]|\$(?![A-Za-z_{$])')


def shell_command(words: Sequence[str]) -> tuple[str, ...]:
    """Return the argv with which `sh` replaces `$NAME` and `${...}` in the words, each of which stays one."""
    return ("sh", "-c", f"exec {' '.join(map(_quoted, words))}")


def reference_words(text: str, key: str) -> list[str]:
    """Split a command whose `${...}` are still in place. Raises ExportError where one has a space."""
    words = shlex.split(text)
    if any(word.count("${") != word.count("}") for word in words):
        raise ExportError(
            f"{key}: a ${{...}} with a space cannot be exported", hint="write the command as a list of words"
        )
    return words


def _quoted(word: str) -> str:
    """Quote a word; `$$` stands for a dollar sign, as in msctl.toml."""
    if "$" not in word:
        return shlex.quote(word)
    escaped = _SPECIAL.sub(lambda match: "\\" + match.group(), word).replace("$$", "\\$")
    return f'"{escaped}"'
