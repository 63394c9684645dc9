"""The progress of long work on a terminal: a count and a rate, gone when the work is done."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from msctl.cli.output.terminal import colours

FIRST_S = 1.0
"""Work that is done sooner shows nothing."""
_EVERY_S = 0.25


async def show_progress(noun: str, count: Callable[[], int], total: int | None = None) -> None:
    """Show `count()` of `total` on standard error until cancelled; nothing if that is no terminal."""
    if not sys.stderr.isatty():
        return
    await asyncio.sleep(FIRST_S)
    from rich.console import Console  # takes longer to import than most sends take
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    console = Console(stderr=True, no_color=not colours(sys.stderr))
    amount = TextColumn("{task.completed:,} {task.description}")
    rate = TextColumn("{task.fields[rate]:,.0f}/s")
    middle = SpinnerColumn("line") if total is None else BarColumn()
    loop = asyncio.get_running_loop()
    with Progress(amount, middle, rate, console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task(noun, total=total, rate=0.0)
        last, at = count(), loop.time()
        while True:
            await asyncio.sleep(_EVERY_S)
            now, done = loop.time(), count()
            progress.update(task, completed=done, rate=(done - last) / (now - at), refresh=True)
            last, at = done, now
