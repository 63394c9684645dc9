"""Faults as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msctl.cli.output.table import Column, table
from msctl.cli.output.terminal import plain
from msctl.cli.output.units import show_duration
from msctl.model.snapshots import FaultSnapshot

if TYPE_CHECKING:
    from msctl.faults.view import AddedFault

_FAULTS = (
    Column("FAULT"),
    Column("KIND"),
    Column("TARGET"),
    Column("EFFECT", 2),
    Column("HITS"),
    Column("ENDS IN"),
)


def fault_lines(faults: Sequence[FaultSnapshot]) -> Iterator[str]:
    """Show active faults as a table."""
    rows = [(one.id, one.kind, one.target, one.effect or "-", str(one.hits), _left(one)) for one in faults]
    return table(_FAULTS, rows)


def added_lines(added: Sequence[AddedFault]) -> Iterator[str]:
    """Say what has begun, or happened."""
    for one in added:
        lasting = "done" if one.done else f"for {_left(one.fault)}"
        yield f"{_shown(one.fault)}: {lasting}, seed {one.fault.seed}"


def ended_lines(ended: Sequence[FaultSnapshot]) -> Iterator[str]:
    """Say what has ended, and how often it struck."""
    if not ended:
        yield "no fault was active"
    for one in ended:
        yield f"{_shown(one)}: ended, struck {one.hits} {'time' if one.hits == 1 else 'times'}"


def _shown(one: FaultSnapshot) -> str:
    effect = f" ({plain(one.effect)})" if one.effect else ""
    return f"{one.id} {one.kind} of {plain(one.target)}{effect}"


def _left(one: FaultSnapshot) -> str:
    return show_duration(-int(-one.remaining_s // 1))
