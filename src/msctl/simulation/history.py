"""What happened in a simulated run: a list for people, and a hash that tells two runs apart."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass

MAX_EVENTS = 5000
"""Events kept to be shown; the hash covers all of them."""

_PYTHON = b"Python/%d.%d" % sys.version_info[:2]
"""How aiohttp names itself in User-Agent and Server; a run is the same on another version of Python."""
_START_OK = b"\0\x0a\0\x0b"
"""The class and method of connection.start-ok, in which an AMQP client describes itself."""


@dataclass(frozen=True, slots=True)
class Happening:
    """One event, at `at` virtual seconds."""

    at: float
    what: str

    def __str__(self) -> str:
        return f"{self.at:10.4f}  {self.what}"


class History:
    """The events of one run."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.kept: list[Happening] = []
        self.count = 0

    def add(self, at: float, what: str) -> None:
        """Add an event that people may want to see."""
        self.count += 1
        self._hash.update(f"{at:.9f} {what}\n".encode("utf-8", "surrogateescape"))
        if len(self.kept) < MAX_EVENTS:
            self.kept.append(Happening(at, what))

    def show(self, at: float, what: str) -> None:
        """Add what people want to see, and what differs from one machine to another."""
        if len(self.kept) < MAX_EVENTS:
            self.kept.append(Happening(at, what))

    def note(self, at: float, data: bytes) -> None:
        """Add something that only the hash covers: bytes on a connection."""
        self._hash.update(b"%.9f " % at)
        if _PYTHON in data:
            data = data.replace(_PYTHON, b"Python/-")
        elif data[7:11] == _START_OK and data[0] == 1:
            data = _START_OK  # it names the interpreter's build
        self._hash.update(data)

    @property
    def digest(self) -> str:
        """Equal for two runs exactly if the same happened in both."""
        return self._hash.hexdigest()[:16]
