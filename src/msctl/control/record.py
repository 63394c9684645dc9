"""What a stack writes down about itself, for verbs that must find or end it when it is silent.

Knows no HTTP and no asyncio. The lock, not this record, says whether a stack lives.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from msctl.control.paths import StackPaths


@dataclass(frozen=True, slots=True)
class StackRecord:
    """`pid` of the stack of `project`, whose folder is `root` (None: the built-in system).

    `broker_url` is where its broker is, with the password; the file is its owner's alone.
    """

    project: str
    root: str | None
    pid: int
    addresses: tuple[str, ...] = ()
    broker_url: str | None = None

    def write(self, paths: StackPaths) -> None:
        """Replace the record at once, so that a reader never sees half of it."""
        draft = paths.record.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(paths.record)


def read_record(paths: StackPaths) -> StackRecord | None:
    """The record, or None where there is none that can be read."""
    try:
        document = json.loads(paths.record.read_text())
        return StackRecord(
            document["project"],
            document["root"],
            int(document["pid"]),
            tuple(document["addresses"]),
            document["broker_url"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def clear_record(paths: StackPaths) -> None:
    paths.record.unlink(missing_ok=True)
