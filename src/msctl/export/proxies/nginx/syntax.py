"""Names, values and regular expressions as nginx reads them."""

from __future__ import annotations

import math
import re
from urllib.parse import unquote

from msctl.export.kind import ExportError
from msctl.export.names import label
from msctl.export.proxies.precedence import Pattern
from msctl.export.proxies.upstreams import ProxyTarget
from msctl.model.routing import is_variable

_SIMPLE = re.compile(r"[A-Za-z0-9_/.~+%@:!*,=-]+")


def quoted(text: str) -> str:
    return text if _SIMPLE.fullmatch(text) else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def literal_regex(text: str) -> str:
    """Return a regular expression in double quotes that matches this text."""
    return re.escape(text).replace("/", "/").replace('"', '\\"')


def literal(text: str) -> str:
    """Return text for double quotes in which nothing is a variable."""
    if "$" in text:
        raise ExportError(f"nginx cannot express '$' in {text!r}", hint="write it as %24")
    return text.replace("\\", "\\\\").replace('"', '\\"')


def header_variable(name: str) -> str:
    return f"$http_{name.lower().replace('-', '_')}"


def seconds(value: float) -> str:
    return f"{int(value)}s" if value == int(value) else f"{math.ceil(value * 1000)}ms"


def upstream_name(found: ProxyTarget) -> str:
    return f"msctl_{label(found.service)}"


def path_regex(pattern: Pattern, *, decoded: bool) -> str:
    """Return the path as a regular expression in double quotes."""
    if pattern.exact and not pattern.elements:
        return "/"
    parts = (
        "[^/?]+" if is_variable(element) else literal_regex(unquote(element) if decoded else element)
        for element in pattern.elements
    )
    return "".join(f"/{part}" for part in parts)
