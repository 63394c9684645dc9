"""The record of a stack: what verbs need to find or stop it when its control socket does not respond.

The lock, not the record, shows whether the stack runs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from msctl.control.paths import StackPaths


@dataclass(frozen=True, slots=True)
class StackRecord:
    """The stack of `project` in the folder `root` (None for the built-in system) with its `pid`.

    `broker_url` includes the password: the file is readable only by its owner.
    """

    project: str
    root: str | None
    pid: int
    addresses: tuple[str, ...] = ()
    broker_url: str | None = None

    def write(self, paths: StackPaths) -> None:
        """Replace the record atomically."""
        draft = paths.record.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(paths.record)


def read_record(paths: StackPaths) -> StackRecord | None:
    """Read the record; None if it is missing or malformed."""
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
