"""`status --watch`: the table, redrawn in place as things change."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from msctl.cli.output.render import only
from msctl.cli.output.tables import status_lines
from msctl.cli.output.terminal import colours
from msctl.control.client import ControlClient
from msctl.errors import NotRunningError

EVERY = 1.0
"""Seconds between two looks; uptimes, CPU and rates change without an event."""


def watch_status(client: ControlClient, names: Sequence[str], *, instances: bool) -> None:
    """Show the status, of these services if any are named, until Ctrl-C or until the stack ends
    (which is said). Raises UnknownServiceError."""
    console = Console(no_color=not colours(sys.stdout), highlight=False)

    def view() -> Text:
        snapshot = client.snapshot()
        if names:
            snapshot = only(snapshot, names)
        lines = status_lines(snapshot, recent=True, broker=not names, instances=instances or bool(names))
        return Text.from_ansi("\n".join(lines), no_wrap=True, overflow="ellipsis")

    try:
        with Live(view(), console=console, auto_refresh=False, screen=False) as live:
            while True:
                time.sleep(EVERY)
                live.update(view(), refresh=True)
    except KeyboardInterrupt:
        return
    except NotRunningError as error:
        raise NotRunningError("the stack has ended", hint="start it with: msctl up") from error
