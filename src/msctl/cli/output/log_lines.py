"""Log lines for people: a prefix per service or instance, in a colour of its own."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from msctl.cli.output.terminal import RED, paint, printable
from msctl.model.events import LogLine

_PREFIX_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_OTHER_COLOUR = 90
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""What programs colour their lines with, though they print to a pipe."""


class LogFormatter:
    """Formats log lines as `service | text`, with the names padded to one width.

    A service of which lines of several instances were seen is shown by instance (`users-2 | text`). On a
    terminal the bar of what came over standard error is red.
    """

    def __init__(self, services: Sequence[str], *, coloured: bool, timestamps: bool = False) -> None:
        self._width = max(map(len, (*services, "msctl", "broker")))
        self._coloured = coloured
        self._timestamps = timestamps
        self._colours = {
            name: _PREFIX_COLOURS[number % len(_PREFIX_COLOURS)] for number, name in enumerate(services)
        }
        self._single: dict[str, str] = {}
        """The only instance seen of a service, so far; empty once there were several."""

    def format(self, line: LogLine) -> str:
        """Return the record, without the last line end; each of its lines has the prefix."""
        name = self._name(line)
        self._width = max(self._width, len(name))
        prefix, bar = f"{name:<{self._width}} ", "|"
        if self._coloured:
            colour = self._colours.get(line.service, _OTHER_COLOUR)
            prefix = paint(prefix, colour)
            bar = paint(bar, RED if line.stream == "stderr" else colour)
        when = f"{_moment(line.time)} " if self._timestamps else ""
        before = f"{when}{prefix}{bar} "
        shown = line.text if self._coloured else _COLOURS.sub("", line.text)
        return "\n".join(f"{before}{printable(text)}" for text in shown.split("\n"))

    def _name(self, line: LogLine) -> str:
        if not line.instance:
            return line.service
        only = self._single.setdefault(line.service, line.instance)
        if only == line.instance:
            return line.service
        self._single[line.service] = ""
        return line.instance


def _moment(when: float) -> str:
    """Local time in ISO 8601, to the millisecond."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(when))}.{int(when % 1 * 1000):03d}"
