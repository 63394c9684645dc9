"""Finds what only a run's files still have of a log, of which the stack keeps the newest lines. Pure.

Times do not tell: a file has the time at which a line was read, the log the time at which its turn came. But
each stream of each instance is in the same order in both. So the first lines that the stack kept of a stream
are looked for in the stream's file, from its end; what comes before them is older.
"""

from __future__ import annotations

from collections.abc import Sequence

from msctl.model.events import LogLine

_PROBE = 20
"""Lines compared to find the place; a program that prints the same ones over and over may be misjudged."""

_Key = tuple[str, str, str]


def older_lines(kept: Sequence[LogLine], in_files: Sequence[LogLine]) -> list[LogLine]:
    """Return the lines of `in_files` that are older than the first of their stream in `kept`, in order."""
    firsts: dict[_Key, list[LogLine]] = {}
    for line in kept:
        if line.stream and line.text.startswith("… ") and line.text.endswith(" lines skipped"):
            continue  # says what only the log left out
        firsts.setdefault(_key(line), []).append(line)
    streams: dict[_Key, list[int]] = {}
    for at, line in enumerate(in_files):
        streams.setdefault(_key(line), []).append(at)
    found: list[int] = []
    for key, places in streams.items():
        lines = firsts.get(key)
        end = len(places) if not lines else _place(lines, [in_files[at] for at in places])
        found += places[:end]
    return [in_files[at] for at in sorted(found)]


def _key(line: LogLine) -> _Key:
    return line.service, line.instance, line.stream or line.level


def _place(kept: Sequence[LogLine], stored: Sequence[LogLine]) -> int:
    """Where in `stored` the first of `kept` stands; by their times if it is not there."""
    probe = [line.text for line in kept[:_PROBE]]
    texts = [line.text for line in stored]
    for at in range(len(texts) - len(probe), -1, -1):
        if texts[at] == probe[0] and texts[at : at + len(probe)] == probe:
            return at
    return sum(1 for line in stored if line.time < kept[0].time - 0.001)
