"""`up` in the foreground: log lines on standard output, everything else on standard error.

All output goes through a BackgroundWriter: neither Ctrl-S nor a closed pipe (`msctl up | head`) may stop
the stack.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

from msctl.cli.interrupts import exit_on_interrupt
from msctl.cli.launch.claim import Claim
from msctl.cli.launch.started import started
from msctl.cli.options.global_options import GlobalOptions
from msctl.cli.outcome import failed_services
from msctl.cli.output.background_writer import BackgroundWriter
from msctl.cli.output.log_lines import LogFormatter
from msctl.cli.output.show_waiting import terminal_size
from msctl.cli.output.terminal import colours, safe_json
from msctl.cli.output.waiting import (
    LIVE_AFTER_S,
    LIVE_EVERY_S,
    PLAIN_AFTER_S,
    PLAIN_EVERY_S,
    LiveBlock,
    PlainLines,
    waited_for,
)
from msctl.control.paths import StackPaths
from msctl.errors import MsctlError
from msctl.garbage import collections_paused
from msctl.model.events import LogLine, skipped_text
from msctl.model.project import Project
from msctl.model.snapshots import Snapshot
from msctl.runtime.exit import exits_soon


def run_foreground(
    options: GlobalOptions,
    project: Project,
    claim: Claim,
    names: Sequence[str],
    *,
    as_json: bool,
    abort_on_failure: bool,
    watch: bool,
) -> None:
    """Run the stack until Ctrl-C. Raises MsctlError if it does not start as asked."""
    claim.announce(project)
    terminal = _Terminal(project, claim.paths, as_json=as_json, abort_on_failure=abort_on_failure)
    with exits_soon():
        try:
            with exit_on_interrupt():  # until the stack's loop handles it
                with collections_paused():  # takes long: after the claim is announced
                    from msctl.cli.launch.stack_runner import run_stack

                run_stack(options, project, claim, names, terminal, watch=watch)
        finally:
            terminal.close()
        if terminal.aborted:
            raise MsctlError("a service did not start", hint="see the log lines above")


class _Terminal:
    """Shows what a stack in the foreground does."""

    def __init__(self, project: Project, paths: StackPaths, *, as_json: bool, abort_on_failure: bool) -> None:
        names = [spec.name for spec in project.services]
        self._formatter = LogFormatter(names, coloured=colours(sys.stdout))
        self._as_json = as_json
        # Hosted services' print() goes to the log: sys.stdout is replaced while the stack runs.
        self._stdout, self._stderr = sys.stdout.fileno(), sys.stderr.fileno()
        self._coloured_errors = colours(sys.stderr)
        # Log lines and the block share one terminal; otherwise neither could be drawn in its place.
        self._live = sys.stdout.isatty() and sys.stderr.isatty()
        self._block = LiveBlock(terminal_size, coloured=self._coloured_errors)
        self._writer = BackgroundWriter(skipped=_skipped_record) if as_json else BackgroundWriter()
        self._abort_on_failure = abort_on_failure
        self._project = project
        self._paths = paths
        self.aborted = False

    def line(self, line: LogLine) -> None:
        self._writer.put(self._stdout, self._block.erase() + self._text(line))

    def _text(self, line: LogLine) -> str:
        if not self._as_json:
            return self._formatter.format(line)
        from msctl.telemetry.logs.lines import as_json

        return safe_json(as_json(line))

    def open(self) -> None:
        """Print nothing until the services have started, or take long."""

    async def watch(self, snapshot: Callable[[], Awaitable[Snapshot]]) -> None:
        await asyncio.sleep(LIVE_AFTER_S if self._live else PLAIN_AFTER_S)
        plain = PlainLines()
        while True:
            now = await snapshot()
            waiting = waited_for(now)
            if self._live:
                self._writer.put(self._stderr, self._block.draw(waiting), end="")
            else:
                for line in plain.changes(waiting, now):
                    self._writer.put(self._stderr, line)
            await asyncio.sleep(LIVE_EVERY_S if self._live else PLAIN_EVERY_S)

    def up(self, snapshot: Snapshot) -> bool:
        self._writer.put(self._stderr, self._block.erase(), end="")
        for line in started(self._project, self._paths, snapshot, coloured=self._coloured_errors):
            self._writer.put(self._stderr, line)
        self.aborted = self._abort_on_failure and bool(failed_services(snapshot))
        return not self.aborted

    def close(self) -> None:
        self._writer.put(self._stderr, self._block.erase(), end="")
        self._writer.close()


def _skipped_record(count: int) -> str:
    """Report skipped lines as a log line in JSON."""
    from msctl.telemetry.logs.lines import as_json

    return as_json(LogLine(0, time.time(), "msctl", "warning", skipped_text(count)))
