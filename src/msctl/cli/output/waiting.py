"""What a verb waits for while it takes long: which services, in which state, and why.

On a terminal the lines are drawn again in place; elsewhere a line is written when a state or a reason
changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from msctl.cli.output.terminal import STATE_COLOURS, cells, paint, plain
from msctl.model.snapshots import ServiceSnapshot, Snapshot, State

STARTING = frozenset({State.WAITING, State.STARTING, State.RUNNING, State.BACKOFF, State.STOPPING})
"""A service in one of these keeps a start waiting."""
STOPPING = frozenset({State.STOPPING})
"""A service in one of these keeps a stop waiting."""

LIVE_AFTER_S = 0.7
PLAIN_AFTER_S = 5.0
"""What is done sooner shows nothing."""
LIVE_EVERY_S = 0.25
PLAIN_EVERY_S = 0.5
_SECONDS = re.compile(r"\d+(\.\d+)? s\b")
_MOST_LINES = 20


@dataclass(frozen=True, slots=True)
class Waiting:
    """One thing that is waited for, as it is now."""

    name: str
    state: State
    reason: str

    @property
    def key(self) -> tuple[State, str]:
        """What a change of is worth a line: not the seconds that pass."""
        return self.state, _SECONDS.sub("", self.reason)

    def text(self, *, coloured: bool = False) -> str:
        """Show `users is starting: connection refused (2.1 s)`."""
        state = paint(self.state.value, STATE_COLOURS[self.state]) if coloured else self.state.value
        reason = f": {plain(self.reason)}" if self.reason else ""
        return f"{self.name} is {state}{reason}"


def waited_for(
    snapshot: Snapshot, *, states: Collection[State] = STARTING, names: Collection[str] | None = None
) -> list[Waiting]:
    """List the services (of `names`, if given) in one of `states`, and the broker while it starts."""
    found = [
        Waiting(service.name, service.state, service.reason or _reason(service))
        for service in snapshot.services
        if service.state in states and (names is None or service.name in names)
    ]
    broker = snapshot.broker
    if broker.state in (State.WAITING, State.STARTING) and broker.state in states:
        found.append(Waiting("the broker", broker.state, broker.reason))
    return found


def _reason(service: ServiceSnapshot) -> str:
    return next((one.reason for one in service.instances if one.reason), "")


@dataclass(slots=True)
class PlainLines:
    """Lines for a file or a pipe: one for each change."""

    _last: dict[str, Waiting] = field(default_factory=dict)

    def changes(self, waiting: Sequence[Waiting], snapshot: Snapshot) -> list[str]:
        """Return the lines for what has changed since the last call."""
        now = {one.name: one for one in waiting}
        lines = [
            Waiting(service.name, service.state, service.reason).text()
            for service in snapshot.services
            if service.name in self._last and service.name not in now
        ]
        for name, one in now.items():
            before = self._last.get(name)
            if before is None or before.key != one.key:
                lines.append(one.text())
        self._last = now
        return lines


@dataclass(slots=True)
class LiveBlock:
    """Lines of a terminal that are drawn again in place (ECMA-48: CPL, ED)."""

    size: Callable[[], tuple[int, int]]
    """Columns and rows of the terminal."""
    coloured: bool = False
    _drawn: int = 0

    def erase(self) -> str:
        """Return what removes the lines; other output may follow."""
        drawn, self._drawn = self._drawn, 0
        return f"\x1b[{drawn}F\x1b[J" if drawn else ""

    def draw(self, waiting: Sequence[Waiting]) -> str:
        """Return what shows these, one a line, in the place of the former ones."""
        columns, rows = self.size()
        most = max(1, min(_MOST_LINES, rows - 2))
        shown = list(waiting) if len(waiting) <= most else list(waiting[: most - 1])
        lines = [self._line(one, columns - 1) for one in shown]
        if len(shown) < len(waiting):
            lines.append(f"and {len(waiting) - len(shown)} more")
        text = self.erase() + "".join(f"{line}\n" for line in lines)
        self._drawn = len(lines)
        return text

    def _line(self, one: Waiting, columns: int) -> str:
        text = one.text()
        if cells(text) <= columns:
            return one.text(coloured=self.coloured)
        while cells(text) >= columns:
            text = text[:-1]
        return f"{text}…"
