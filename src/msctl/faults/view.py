"""The faults of a running stack, as the command line and the page see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from msctl.faults.spec import FaultSpec
from msctl.model.snapshots import FaultSnapshot


@dataclass(frozen=True, slots=True)
class AddedFault:
    """A fault that has begun; `done` if it happens once. `notes` say what it does not reach."""

    fault: FaultSnapshot
    done: bool = False
    notes: tuple[str, ...] = ()


class FaultView(Protocol):
    """The faults of a running stack."""

    async def add(self, specs: Sequence[FaultSpec], *, force: bool = False) -> tuple[AddedFault, ...]:
        """Begin faults, all or none. Raises MsctlError for one that this stack cannot have."""
        ...

    def active(self) -> tuple[FaultSnapshot, ...]:
        """The active faults, oldest first."""
        ...

    async def clear(self, ids: Sequence[str]) -> tuple[FaultSnapshot, ...]:
        """End faults, all without ids, and return them. Raises UsageError for an unknown id."""
        ...
