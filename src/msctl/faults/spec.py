"""One fault as it was asked for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from msctl.config.schema.quantities import show_duration
from msctl.faults.kinds import KINDS, FaultKind, KindInfo, TargetType

DEFAULT_S = 60.0
"""How long a fault lasts that says nothing else."""
LONGEST_S = 24 * 3600.0


class Distribution(StrEnum):
    """How a delay with jitter is spread, as netem has it."""

    UNIFORM = "uniform"
    NORMAL = "normal"
    PARETO = "pareto"


class When(StrEnum):
    """Whether a request is aborted before or after it has reached its service."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Target:
    """What a fault concerns: `type` and its name, empty for the whole broker."""

    type: TargetType
    name: str = ""

    def __str__(self) -> str:
        return f"{self.type} {self.name}" if self.name else str(self.type)


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """One fault; times in seconds, `share` from 0 to 1, `rate` in bytes a second.

    `headers` are names in lower case with values, None for any. `seed` fixes which requests or messages
    are hit; None lets the stack draw one.
    """

    kind: FaultKind
    target: Target
    lasts: float = DEFAULT_S
    share: float = 1.0
    seed: int | None = None
    headers: tuple[tuple[str, str | None], ...] = ()
    delay: float = 0.0
    jitter: float = 0.0
    distribution: Distribution = Distribution.UNIFORM
    status: int = 0
    """0 resets the connection."""
    when: When = When.BEFORE
    bytes: int = 0
    rate: int = 0
    frames: int = 0
    every: float = 0.0
    offset: float = 0.0

    @property
    def info(self) -> KindInfo:
        return KINDS[self.kind]

    @property
    def effect(self) -> str:
        """What it does, in a few words: `503 before the service, 20 %, header x-user`."""
        parts: list[str] = []
        kind = self.kind
        if self.delay:
            spread = f" ± {_shown(self.jitter)} ({self.distribution})" if self.jitter else ""
            parts.append(f"{_shown(self.delay)}{spread}")
        if kind is FaultKind.ABORT:
            parts.append(f"{self.status or 'reset'} {self.when} the service")
        if kind in (FaultKind.SLOW_BODY, FaultKind.TRUNCATE_BODY):
            parts.append(f"{'every' if kind is FaultKind.SLOW_BODY else 'after'} {self.bytes} bytes")
        if self.rate:
            parts.append(f"{self.rate} bytes/s")
        if kind is FaultKind.CUT:
            parts.append(f"after {self.frames} frames")
        if self.every:
            parts.append(f"every {_shown(self.every)}")
        if self.offset:
            parts.append(f"{'+' if self.offset > 0 else '-'}{_shown(abs(self.offset))}")
        if self.share < 1:
            parts.append(f"{self.share * 100:g} %")
        parts += [
            f"header {name}" if value is None else f"header {name}={value}" for name, value in self.headers
        ]
        return ", ".join(parts)


def _shown(seconds: float) -> str:
    return show_duration(round(seconds, 6))
