"""Log lines for people: a prefix per service, in a colour of its own."""

from __future__ import annotations

from collections.abc import Sequence

from msctl.cli.output.terminal import paint, printable
from msctl.model.events import LogLine

_PREFIX_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_OTHER_COLOUR = 90


class LogFormatter:
    """Formats log lines as `service | text`, with the names padded to one width."""

    def __init__(self, services: Sequence[str], *, coloured: bool) -> None:
        self._width = max(map(len, (*services, "msctl", "broker")))
        self._coloured = coloured
        self._colours = {
            name: _PREFIX_COLOURS[number % len(_PREFIX_COLOURS)] for number, name in enumerate(services)
        }

    def format(self, line: LogLine) -> str:
        """Return the line, without a line end."""
        prefix = f"{line.service:<{self._width}} |"
        if self._coloured:
            prefix = paint(prefix, self._colours.get(line.service, _OTHER_COLOUR))
        return f"{prefix} {printable(line.text)}"
