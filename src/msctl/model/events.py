"""State changes and log lines of a running stack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from msctl.model.snapshots import State


@dataclass(frozen=True, slots=True)
class Event:
    """A change of an instance's state or reason. `seq` grows by one; `time` is epoch seconds."""

    seq: int
    time: float
    service: str
    instance: str
    state: State
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One record of a service's log, or of the stack's own (service "msctl"); a traceback has several lines.

    `trace` is the id of the trace of the request or message that it was written for, if any;
    `fields` are what its writer attached to it. `stream` is "stdout" or "stderr" for what a service
    printed, empty for what was logged.
    """

    seq: int
    time: float
    service: str
    level: str
    text: str
    instance: str = ""
    trace: str | None = None
    fields: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    stream: str = ""


@dataclass(frozen=True)
class LogQuery:
    """A selection of log lines: of these services (empty: all), the last `tail`, and new ones with `follow`.

    `since` is epoch seconds; `stream` "stdout" or "stderr", `level` the lowest one; empty for all. `tail`
    counts what is left after these. There is no pattern: a regular expression can take hours, so that only
    clients may run one.
    """

    services: tuple[str, ...] = ()
    tail: int | None = None
    follow: bool = False
    since: float | None = None
    stream: str = ""
    level: str = ""


def skipped_text(count: int) -> str:
    """The line in the place of those that a reader did not get."""
    return f"… {count:,} lines skipped"
