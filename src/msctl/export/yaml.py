"""Writes the subset of YAML that exports need: mappings, lists, strings, numbers, booleans. Pure.

PyYAML would be a dependency of every installation for one verb, and writes neither comments nor block
strings by default. Every string that could be read as another type is double-quoted, which YAML 1.1 and
1.2 read alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./+-]*(?::[A-Za-z0-9_./][A-Za-z0-9_./+-]*)*")
_RESERVED = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_UNFIT = re.compile("[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
"""Characters that YAML does not allow, or reads as a line break."""
_INDENT = "  "


def dump(value: object, *, comment: str = "") -> str:
    """Return one document, below `comment`."""
    head = "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines())
    return head + "".join(f"{line}\n" for line in _lines(value, ""))


def dump_all(values: Sequence[object], *, comment: str = "") -> str:
    """Return several documents in one file."""
    head, *rest = values
    return dump(head, comment=comment) + "".join(f"---\n{dump(value)}" for value in rest)


def _lines(value: object, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _entry(f"{indent}{_scalar(str(key))}:", item, indent)
    elif isinstance(value, (list, tuple)) and value:
        for item in value:
            yield from _item(item, indent)
    else:
        yield indent + _inline(value)


def _entry(head: str, value: object, indent: str) -> Iterator[str]:
    if isinstance(value, str) and _is_block(value):
        yield f"{head} {_block_head(value)}"
        yield from _block(value, indent + _INDENT)
    elif isinstance(value, (Mapping, list, tuple)) and value:
        yield head
        yield from _lines(value, indent + _INDENT)
    else:
        yield f"{head} {_inline(value)}"


def _item(value: object, indent: str) -> Iterator[str]:
    if isinstance(value, str) and _is_block(value):
        yield f"{indent}- {_block_head(value)}"
        yield from _block(value, indent + _INDENT)
        return
    first = True
    for line in _lines(value, indent + _INDENT):
        yield f"{indent}- {line[len(indent) + len(_INDENT) :]}" if first else line
        first = False


def _inline(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, (int, float)):
        return json.dumps(value)
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, (list, tuple)):
        return "[]"
    return _scalar(str(value))


def _scalar(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _RESERVED:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return '"' + _UNFIT.sub(lambda match: f"\\u{ord(match.group()):04x}", escaped) + '"'


def _is_block(text: str) -> bool:
    """Whether a multi-line string can be a block: `|` keeps it byte for byte."""
    lines = text.split("\n")
    return (
        len(lines) > 1
        and bool(lines[0].strip())
        and not lines[0].startswith(" ")
        and not text.endswith("\n\n")
        and not _UNFIT.search(text.replace("\n", ""))
        and all(line.strip() or not line for line in lines)
    )


def _block_head(text: str) -> str:
    return "|" if text.endswith("\n") else "|-"


def _block(text: str, indent: str) -> Iterator[str]:
    for line in text.removesuffix("\n").split("\n"):
        yield indent + line if line else ""
