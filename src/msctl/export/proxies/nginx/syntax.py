"""Names, values and regular expressions as nginx reads them.

A text of msctl.toml may hold any character. In nginx.conf it is put in double quotes, in which a backslash
escapes quotes, itself and the letters t, r and n. In values `$` begins a variable, and nginx has no escape
for it: the variable DOLLAR, which is declared if it is used, holds one.

nginx keeps variables, captures, upstreams, zones and caches for the whole http block, in which the files of
several projects may be included; two variables of one name are no error, and the later one counts. So every
such name begins with OWN, which no text of msctl.toml contains, and `of_project` puts the project there.
"""

from __future__ import annotations

import math
import re
from urllib.parse import unquote_to_bytes
from zlib import crc32

from msctl.export.kind import ExportError
from msctl.export.names import label
from msctl.export.proxies.precedence import Pattern
from msctl.model.routing import is_variable

OWN = "\x1f"
"""Where a name of a file's own begins, until `of_project`: a control character, which texts may not have."""
LONGEST_SILENCE = 3600.0
"""Seconds for what has no limit: nginx takes 0 for none. For streams, it is as long to the first byte."""
DOLLAR = f"{OWN}dollar"
_SIMPLE = re.compile(r"[A-Za-z0-9_/.~+%@:!*,=-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_PROJECT = 14
"""nginx's table of variables takes names of 46 characters, of which the longest of ours needs 32."""
_FIELD = re.compile(r"[A-Za-z0-9-]+")


def of_project(text: str, project: str) -> str:
    """Complete the names that begin with OWN; `project` is the project's label."""
    name = re.sub(r"[^a-z0-9]+", "_", project)
    if len(name) > _LONGEST_PROJECT:
        checksum = f"{crc32(project.encode()):08x}"
        name = f"{name[: _LONGEST_PROJECT - len(checksum) - 1]}_{checksum}"
    return text.replace(OWN, f"msctl_{name}__")


def quoted(text: str) -> str:
    """Return text for a place in which nginx knows no variables."""
    _check(text)
    return text if _SIMPLE.fullmatch(text) else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def literal(text: str) -> str:
    """Return text for double quotes in which nothing is a variable."""
    _check(text)
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("$", f"${{{DOLLAR}}}")


def value(text: str) -> str:
    """Return a value in double quotes."""
    return f'"{literal(text)}"'


def literal_regex(text: str) -> str:
    """Return a regular expression for double quotes that matches this text."""
    _check(text)
    return in_quotes(re.escape(text))


def in_quotes(regex: str) -> str:
    """Return a regular expression for double quotes; most backslashes stay single, for the reader."""
    return re.sub(r"""\\(?=["'\\trn]|$)""", r"\\\\", regex).replace('"', '\\"')


def header_variable(name: str) -> str:
    """Return the variable of a request's field. Raises ExportError for a name that nginx drops."""
    if not _FIELD.fullmatch(name):
        raise ExportError(
            f"nginx cannot read the field {name!r}", hint="name it with letters, digits and hyphens"
        )
    return f"$http_{name.lower().replace('-', '_')}"


def seconds(value: float) -> str:
    return f"{int(value)}s" if value == int(value) else f"{math.ceil(value * 1000)}ms"


def upstream_name(service: str) -> str:
    return f"{OWN}{label(service)}"


def path_regex(pattern: Pattern, *, decoded: bool) -> str:
    """Return the path as a regular expression in double quotes."""
    if pattern.exact and not pattern.elements:
        return "/"
    parts = (
        "[^/?]+" if is_variable(element) else literal_regex(decoded_path(element) if decoded else element)
        for element in pattern.elements
    )
    return "".join(f"/{part}" for part in parts)


def decoded_path(path: str) -> str:
    """Return a path without escapes, as nginx matches it. Raises ExportError for what is not text."""
    try:
        return unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        raise ExportError(f"nginx cannot match the path {path!r}", hint="write it in UTF-8") from None


def at_most(limit: int) -> str:
    """Return a regular expression for the numbers from 0 to `limit`, and for none."""
    digits = str(limit)
    found = [f"[0-9]{{0,{len(digits) - 1}}}", digits]
    for index, digit in enumerate(digits):
        if digit > "0":
            rest = len(digits) - index - 1
            found.append(f"{digits[:index]}[0-{int(digit) - 1}]" + (f"[0-9]{{{rest}}}" if rest else ""))
    return f"0*(?:{'|'.join(found)})"


def share(part: float) -> str:
    """Return a share from 0 to 1 as split_clients writes it, which knows hundredths of a percent."""
    return f"{max(0.01, round(part * 100, 2)):.2f}".rstrip("0").rstrip(".") + "%"


def _check(text: str) -> None:
    if _CONTROL.search(text):
        raise ExportError(f"nginx cannot express the control characters in {text!r}", hint="remove them")
