"""Results of `doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CheckVerdict(StrEnum):
    """How bad a check's result is; only `fail` keeps the project from running."""

    OK = "ok"
    NOTE = "note"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check; `advice` says what to do about it."""

    check: str
    verdict: CheckVerdict
    detail: str
    advice: str = ""
