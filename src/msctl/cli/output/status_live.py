"""`status --watch`: lines redrawn in place."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable

from rich.console import Console
from rich.live import Live
from rich.text import Text

from msctl.cli.output.terminal import colours

INTERVAL = 1.0
"""Seconds between two updates; uptimes, CPU and rates change without an event."""


def redraw(lines: Callable[[], Iterable[str]]) -> None:
    """Show `lines()` again every second until Ctrl-C or an error, which is raised."""
    console = Console(no_color=not colours(sys.stdout), highlight=False)

    def view() -> Text:
        return Text.from_ansi("\n".join(lines()), no_wrap=True, overflow="ellipsis")

    try:
        with Live(view(), console=console, auto_refresh=False, screen=False) as live:
            while True:
                time.sleep(INTERVAL)
                live.update(view(), refresh=True)
    except KeyboardInterrupt:
        return
