"""The log of processes that hosted applications fork, such as the workers of a process pool.

A forked process has a copy of the hub, which nobody reads. Its records go through a pipe instead, each in
one write of at most PIPE_BUF bytes, so that those of several processes do not mix. A full pipe drops them:
the log makes nobody wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msctl.forks import on_fork
from msctl.telemetry.logs.hub import LogHub


@contextmanager
def forked_logs(loop: asyncio.AbstractEventLoop, logs: LogHub) -> Iterator[None]:
    """Add what processes that are forked while the context is open log to `logs`."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    rest = b""

    def read() -> None:
        nonlocal rest
        with contextlib.suppress(BlockingIOError):
            *lines, rest = (rest + os.read(reading, 65536)).split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError):
                    service, text, level, more = json.loads(line)
                    logs.append(service, text, level, **more)

    def send(service: str, text: str, level: str, **more: Any) -> None:
        with contextlib.suppress(OSError):
            os.write(writing, encoded(service, text, level, more))

    loop.add_reader(reading, read)
    with on_fork(lambda: logs.divert(send)):
        try:
            yield
        finally:
            read()
            loop.remove_reader(reading)
            os.close(reading)
            os.close(writing)


def encoded(service: str, text: str, level: str, more: dict[str, Any]) -> bytes:
    """Return a record as a line of at most PIPE_BUF bytes; a longer one loses its fields, and its end."""
    record = json.dumps([service, text, level, more]).encode() + b"\n"
    if len(record) <= select.PIPE_BUF:
        return record
    more = {**more, "fields": {}}
    whole = text
    while len(record) > select.PIPE_BUF:
        text = text[: min(len(text) // 2, select.PIPE_BUF)]
        cut = f"{text}… ({len(whole) - len(text)} more characters cut)"
        record = json.dumps([service, cut, level, more]).encode() + b"\n"
    return record
