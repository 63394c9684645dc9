"""Services' names as DNS labels, for containers and Kubernetes. Pure.

A service's name may contain underscores and end in a dash; a DNS label may not. The rule: lower case, a
dash for everything that is not a letter or digit, an `x` after a dash at the end and before anything but
a letter at the start. Two names with one label are refused, and every renaming is a notice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from zlib import crc32

from msctl.export.kind import ExportError, Notice
from msctl.model.project import Project

LONGEST_LABEL = 63


def label(name: str) -> str:
    """Return `name` as a DNS label (RFC 1035, as Kubernetes requires for a Service)."""
    text = re.sub(r"[^a-z0-9-]", "-", name.lower())[:LONGEST_LABEL]
    if not text[:1].isalpha():
        text = f"x{text}"[:LONGEST_LABEL]
    return text[:-1] + "x" if text.endswith("-") else text


def labels(names: Iterable[str], taken: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return each service's label. Raises ExportError if two would have the same.

    `taken` has the labels that the target uses itself, each with its use.
    """
    found: dict[str, str] = {}
    owners = dict(taken or {})
    for name in names:
        text = label(name)
        if text in owners:
            raise ExportError(
                f"services.{name}: its name in the target would be {text!r}, which {owners[text]} has",
                hint="rename one of them",
            )
        owners[text] = f"service {name!r}"
        found[name] = text
    return found


def renamed(found: Mapping[str, str]) -> Iterator[Notice]:
    """Name the services that have another name in the target."""
    for name, text in found.items():
        if name != text:
            yield Notice(f"services.{name}", f"is named {text!r}, since {name!r} is not a DNS label")


def project_label(project: Project) -> str:
    """Return the project's name as a DNS label; a checksum tells apart names in other scripts."""
    return project_name_label(project.name)


def project_name_label(name: str) -> str:
    if name.isascii():
        return label(name)
    known = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "project"
    checksum = f"{crc32(name.encode()):08x}"
    return f"{label(known[: LONGEST_LABEL - len(checksum) - 2])}-{checksum}"
