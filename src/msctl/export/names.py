"""Names that are legal in a target, made of msctl's by one stated rule; pure.

A service of msctl may hold underscores and end in a dash; DNS, and with it Kubernetes and
containers, allows neither. The rule: lower case, whatever is not a letter or digit becomes a dash,
and an `x` closes a name that would end in one. It is reversible within a project, because two
names that would become one are refused, and because every renaming is said in a notice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from msctl.export.kind import ExportError, Notice
from msctl.model.project import Project

LONGEST_LABEL = 63


def label(name: str) -> str:
    """`name` as a DNS label (RFC 1035, as Kubernetes wants it of a Service)."""
    text = re.sub(r"[^a-z0-9-]", "-", name.lower())[:LONGEST_LABEL]
    if not text[:1].isalpha():
        text = f"x{text}"[:LONGEST_LABEL]
    return text[:-1] + "x" if text.endswith("-") else text


def labels(names: Iterable[str], taken: Mapping[str, str] | None = None) -> dict[str, str]:
    """Each service's name with its label.

    `taken` are labels that the target needs itself, each with what for. Raises ExportError where
    two would be the same.
    """
    found: dict[str, str] = {}
    owners = dict(taken or {})
    for name in names:
        text = label(name)
        if text in owners:
            raise ExportError(
                f'services.{name}: its name there would be "{text}", and that is taken by {owners[text]}',
                hint="rename one of them",
            )
        owners[text] = f'the service "{name}"'
        found[name] = text
    return found


def renamed(found: Mapping[str, str]) -> Iterator[Notice]:
    """A notice for each name that is not the same in the target."""
    for name, text in found.items():
        if name != text:
            yield Notice(f"services.{name}", f'is called "{text}" there, where "{name}" is not a legal name')


def project_label(project: Project) -> str:
    return label(project.name)
