"""`status --watch`: the table, redrawn in place as things change."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from msctl.cli.render import colours
from msctl.cli.tables import status_lines
from msctl.control.client import ControlClient
from msctl.errors import NotRunningError

EVERY = 1.0
"""Seconds between two looks; uptimes, CPU and rates change without an event."""


def watch_status(client: ControlClient) -> None:
    """Show the status until Ctrl-C, or until the stack ends (which is said)."""
    console = Console(no_color=not colours(sys.stdout), highlight=False)
    try:
        with Live(_view(client), console=console, auto_refresh=False, screen=False) as live:
            while True:
                time.sleep(EVERY)
                live.update(_view(client), refresh=True)
    except KeyboardInterrupt:
        return
    except NotRunningError as error:
        raise NotRunningError("the stack has ended", hint="start it with: msctl up") from error


def _view(client: ControlClient) -> Text:
    return Text.from_ansi(
        "\n".join(status_lines(client.snapshot(), recent=True)), no_wrap=True, overflow="ellipsis"
    )
