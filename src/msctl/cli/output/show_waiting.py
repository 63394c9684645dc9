"""Shows what a running stack is waiting for, from a thread, while the verb waits for its answer."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msctl.cli.output.terminal import colours
from msctl.cli.output.waiting import (
    LIVE_AFTER_S,
    LIVE_EVERY_S,
    PLAIN_AFTER_S,
    PLAIN_EVERY_S,
    STARTING,
    LiveBlock,
    PlainLines,
    waited_for,
)
from msctl.errors import MsctlError
from msctl.model.snapshots import State

if TYPE_CHECKING:
    from msctl.control.client import ControlClient

_ANSWER_S = 1.0


@contextmanager
def showing_waiting(
    client: ControlClient, *, states: Collection[State] = STARTING, names: Collection[str] | None = None
) -> Iterator[None]:
    """Show on standard error which services (of `names`, if given) are in one of `states`, and why."""
    shower = _Shower(client, states, names)
    thread = threading.Thread(target=shower.run, name="msctl-waiting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        shower.over.set()
        thread.join()


class _Shower:
    def __init__(
        self, client: ControlClient, states: Collection[State], names: Collection[str] | None
    ) -> None:
        self.over = threading.Event()
        self._client = client
        self._states = states
        self._names = names
        live = sys.stderr.isatty()
        self._block = LiveBlock(terminal_size, coloured=colours(sys.stderr)) if live else None
        self._plain = PlainLines()

    def run(self) -> None:
        first, every = (PLAIN_AFTER_S, PLAIN_EVERY_S) if self._block is None else (LIVE_AFTER_S, LIVE_EVERY_S)
        if self.over.wait(first):
            return
        while True:
            self._show()
            if self.over.wait(every):
                break
        if self._block is not None:
            self._write(self._block.erase())

    def _show(self) -> None:
        try:
            snapshot = self._client.snapshot(_ANSWER_S)
        except MsctlError:
            return  # it does not answer at the moment; the verb itself will say so
        if self.over.is_set():
            return
        waiting = waited_for(snapshot, states=self._states, names=self._names)
        if self._block is not None:
            self._write(self._block.draw(waiting))
        else:
            self._write("".join(f"{line}\n" for line in self._plain.changes(waiting, snapshot)))

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):
            self.over.set()  # nobody reads it


def terminal_size() -> tuple[int, int]:
    """Return the columns and rows of standard error's terminal."""
    try:
        size = os.get_terminal_size(2)
    except OSError:
        return 80, 24
    return size.columns or 80, size.lines or 24
