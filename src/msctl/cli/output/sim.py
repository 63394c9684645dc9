"""What simulated runs found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from msctl.cli.output.terminal import plain
from msctl.cli.output.traces import waterfall

if TYPE_CHECKING:
    from msctl.simulation.run import RunResult

LAST = 25
"""Events shown of the shortest history."""


@dataclass(frozen=True)
class Summary:
    """Runs of which none failed."""

    runs: int
    virtual_s: float
    seconds: float


def summary_line(summary: Summary) -> str:
    minutes = summary.virtual_s / 60
    return f"{summary.runs} runs, {minutes:.0f} virtual minutes in {summary.seconds:.1f} s: everything held"


def failure_lines(found: RunResult, shortest: RunResult, again: str) -> list[str]:
    """Show what failed, the faults that it takes, the last events, and how to see it again."""
    lines = [f"seed {found.seed} failed after {found.seconds:.1f} virtual seconds: {plain(shortest.failure)}"]
    if shortest.where:
        lines.append(f"  at {_near(shortest.where)}")
    if found.faults:
        lines += ["", f"faults ({_enough(len(shortest.faults), len(found.faults))} enough):"]
        lines += [f"  {fault.at:8.3f} s  {plain(str(fault))}" for fault in shortest.faults]
    shown = shortest.history[-LAST:]
    lines += ["", "the last events:" if len(shown) < len(shortest.history) else "events:"]
    lines += [f"  {plain(str(event))}" for event in shown]
    if shortest.trace is not None:
        lines += ["", *waterfall(shortest.trace, None, coloured=False)]
    lines += ["", f"replay: {again}"]
    return lines


def history_lines(found: RunResult) -> Iterator[str]:
    """Show everything that happened in a run."""
    yield from (plain(str(event)) for event in found.history)
    if found.failure and found.trace is not None:
        yield from ("", *waterfall(found.trace, None, coloured=False), "")
    verdict = plain(found.failure) if found.failure else "everything held"
    yield f"seed {found.seed}, {found.seconds:.1f} virtual seconds, trace {found.digest}: {verdict}"
    if found.where:
        yield f"  at {_near(found.where)}"


def _near(place: str) -> str:
    """A place in a file below the working directory without the directory's name."""
    return plain(place.removeprefix(f"{Path.cwd()}{os.sep}"))


def _enough(some: int, all_of_them: int) -> str:
    return f"{some} of {all_of_them} {'is' if some == 1 else 'are'}"
