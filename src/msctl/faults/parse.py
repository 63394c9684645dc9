"""Reads a fault from the words of a command line or the table of a scenario file. Pure.

Both have the same options and spellings; every problem names the option and what was expected.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from msctl.config.schema.quantities import seconds_of, show_duration
from msctl.config.schema.value_type import MismatchError
from msctl.errors import UsageError
from msctl.faults.kinds import KINDS, FaultKind, KindInfo, Place, TargetType
from msctl.faults.spec import DEFAULT_S, LONGEST_S, Distribution, FaultSpec, Target, When
from msctl.hints import did_you_mean

LONGEST_DELAY_S = 3600.0
_TARGETS = tuple(str(each) for each in TargetType if each is not TargetType.BROKER)
_GENERAL = frozenset({"kind", "target", "for", "seed", *_TARGETS})
_UNITS = {"": 1, "b": 1, "k": 1024, "kb": 1000, "kib": 1024, "m": 1024**2, "mb": 1000**2, "mib": 1024**2}
_DEFAULTS: Mapping[FaultKind, Mapping[str, Any]] = {
    FaultKind.ABORT: {"status": 503},
    FaultKind.SLOW_BODY: {"delay": 1.0, "bytes": 1024},
    FaultKind.REORDER: {"delay": 1.0},
    FaultKind.CUT: {"frames": 10},
}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class OptionError(UsageError):
    """An option of a fault cannot be used."""


def fault_from(values: Mapping[str, object], where: str = "--") -> FaultSpec:
    """Return the fault that `values` describe: `kind`, `target` or one of `route`, `service`, …, and options.

    `where` stands before the name of an option in messages. Raises UsageError.
    """
    given = {name: value for name, value in values.items() if value is not None and value != ()}
    kind = _kind(given.get("kind"), where)
    info = KINDS[kind]
    _check_names(kind, info, given, where)
    found: dict[str, Any] = dict(_DEFAULTS.get(kind, {}))
    for name, value in given.items():
        reader = _READERS.get(name)
        if reader is not None:
            field, read = reader
            found[field] = read(value, f"{where}{name}")
    if found.pop("reset", False):
        if "status" in given:
            raise OptionError(f"{where}status and {where}reset exclude each other", hint="give one of them")
        found["status"] = 0
    if found.get("jitter", 0.0) > found.get("delay", 0.0):
        raise OptionError(
            f"{where}jitter must not be greater than {where}delay", hint="a delay cannot be negative"
        )
    if "distribution" in given and not found.get("jitter"):
        raise OptionError(f"{where}distribution needs {where}jitter", hint="for example: --jitter 50ms")
    if info.once and "for" in given and not found.get("every"):
        raise OptionError(
            f"{kind} happens once, so it has no {where}for", hint=f"repeat it with {where}every 5s"
        )
    return FaultSpec(kind, _target(kind, info, given, where), **found)


def faults_from_toml(text: str, file: str) -> list[FaultSpec]:
    """Return the `[[faults]]` of a scenario file. Raises UsageError that names the file and the entry."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OptionError(f"{file} is not TOML: {str(error).lower()}") from error
    tables = document.get("faults")
    unknown = sorted(set(document) - {"faults"})
    if unknown or not isinstance(tables, list) or not tables or not all(isinstance(t, dict) for t in tables):
        what = f"an unknown key {unknown[0]!r}" if unknown else "no [[faults]]"
        raise OptionError(
            f"{file} has {what}", hint='expected [[faults]] tables with kind = "delay" and so on'
        )
    found = []
    for number, table in enumerate(tables, 1):
        found.append(fault_from(table, f"{file}: [[faults]] {number}: "))
    return found


def _kind(raw: object, where: str) -> FaultKind:
    names = [str(kind) for kind in FaultKind]
    if not isinstance(raw, str) or not raw:
        raise OptionError(
            f"{_prefix(where)}the kind of the fault is missing", hint=f"one of: {', '.join(names)}"
        )
    if raw not in names:
        raise OptionError(f"{_prefix(where)}there is no fault {raw!r}", hint=_near(raw, names))
    return FaultKind(raw)


def _prefix(where: str) -> str:
    return "" if where == "--" else where


def _near(name: str, names: list[str]) -> str:
    hint = did_you_mean(name, names) or ""
    return hint if hint.startswith("known") else f"{hint} known here: {', '.join(sorted(names))}"


def _check_names(kind: FaultKind, info: KindInfo, given: Mapping[str, object], where: str) -> None:
    for name, value in given.items():
        if name in _GENERAL or name in info.options:
            continue
        if name in _READERS:
            if value is False:  # a flag that was not given
                continue
            takers = [str(each) for each, other in KINDS.items() if name in other.options]
            options = ", ".join(sorted(info.options)) or "none but for and seed"
            raise OptionError(
                f"{where}{name} does not fit {kind}",
                hint=f"its options are: {options}; {name} is an option of {', '.join(takers)}",
            )
        known = [*_GENERAL, *info.options]
        raise OptionError(f"{_prefix(where)}unknown key {name!r}", hint=did_you_mean(name, known))
    for name in sorted(info.needs):
        if name not in given:
            raise OptionError(
                f"{_prefix(where)}{kind} needs {name if where != '--' else '--' + name}",
                hint=f"for example: {_EXAMPLES[name]}",
            )


_EXAMPLES = {"delay": "--delay 200ms", "rate": "--rate 10KiB", "offset": "--offset +1h"}


def _target(kind: FaultKind, info: KindInfo, given: Mapping[str, object], where: str) -> Target:
    named = [(name, given[name]) for name in ("target", *_TARGETS) if name in given]
    fits = ", ".join(map(str, info.targets))
    if len(named) > 1:
        raise OptionError(
            f"{_prefix(where)}a fault has one target, not {len(named)}: {', '.join(n for n, _ in named)}"
        )
    if not named:
        if info.targets == (TargetType.BROKER,):
            return Target(TargetType.BROKER)
        raise OptionError(f"{_prefix(where)}the target is missing", hint=f"{kind} takes: {_shown(info)}")
    name, value = named[0]
    if not isinstance(value, str) or not value.strip():
        raise OptionError(f"{_prefix(where)}the target must be a name, not {value!r}")
    if name == "target":
        target = _guess(value, info)
    else:
        target = Target(TargetType(name), value)
    if target.type not in info.targets:
        raise OptionError(
            f"{_prefix(where)}{kind} does not fit a target of type {target.type}",
            hint=f"expected one of: {fits}",
        )
    return target


def _shown(info: KindInfo) -> str:
    return ", ".join("broker" if each is TargetType.BROKER else f"--{each} NAME" for each in info.targets)


def _guess(text: str, info: KindInfo) -> Target:
    """Read a target without an option: `/path`, `queue:name`, `broker`, or a name of the usual type."""
    before, colon, after = text.partition(":")
    if colon and after and before in tuple(map(str, TargetType)):
        return Target(TargetType(before), after)
    if info.place is Place.BROKER:
        if text == TargetType.BROKER:
            return Target(TargetType.BROKER)
        usual = TargetType.QUEUE if TargetType.QUEUE in info.targets else info.targets[0]
        return Target(usual, text)
    if text.startswith("/"):
        return Target(TargetType.ROUTE, text)
    return Target(TargetType.SERVICE, text)


# --- values -------------------------------------------------------------------------------------------


def _seconds(value: object, name: str) -> float:
    plain = isinstance(value, str) and value.replace(".", "", 1).isdecimal()
    try:
        return seconds_of(float(str(value)) if plain else value)
    except MismatchError as error:
        raise OptionError(
            f"{name}: {value!r} is not a duration", hint="use a unit, as in 500ms, 10s or 2m, or seconds"
        ) from error


def _positive(longest: float) -> Callable[[object, str], float]:
    def read(value: object, name: str) -> float:
        seconds = _seconds(value, name)
        if not 0 < seconds <= longest:
            raise OptionError(
                f"{name} must be greater than 0 and at most {show_duration(longest)}, not {value!r}",
                hint="a fault always ends" if name.endswith("for") else None,
            )
        return seconds

    return read


def _jitter(value: object, name: str) -> float:
    return _seconds(value, name)


def _offset(value: object, name: str) -> float:
    text = str(value).strip()
    sign = -1.0 if text.startswith("-") else 1.0
    seconds = _seconds(text.lstrip("+-"), name)
    if not seconds:
        raise OptionError(f"{name} must not be 0", hint="for example: +1h, -5m")
    return sign * seconds


def _share(value: object, name: str) -> float:
    text = str(value).strip().removesuffix("%").strip()
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if isinstance(value, bool) or not 0 < share <= 100:
        raise OptionError(
            f"{name} must be greater than 0 and at most 100 percent, not {value!r}", hint="for example: 20"
        )
    return share / 100


def _integer(low: int, high: int) -> Callable[[object, str], int]:
    def read(value: object, name: str) -> int:
        text = str(value).strip()
        if (
            isinstance(value, bool)
            or not text.isascii()
            or not text.isdecimal()
            or not low <= int(text[:20]) <= high
        ):
            raise OptionError(f"{name} must be a whole number from {low} to {high}, not {value!r}")
        return int(text)

    return read


def _size(value: object, name: str) -> int:
    match = re.fullmatch(r"(\d{1,15})\s*([A-Za-z]*)(?:/s)?", str(value).strip())
    if isinstance(value, bool) or match is None or match[2].lower() not in _UNITS:
        raise OptionError(
            f"{name}: {value!r} is not a size", hint="use bytes or a unit, as in 512, 10KiB or 1MiB"
        )
    return int(match[1]) * _UNITS[match[2].lower()]


def _rate(value: object, name: str) -> int:
    rate = _size(value, name)
    if rate < 1:
        raise OptionError(f"{name} must be at least 1 byte a second")
    return rate


def _choice(kinds: type[StrEnum]) -> Callable[[object, str], StrEnum]:
    def read(value: object, name: str) -> StrEnum:
        names = [str(each) for each in kinds]
        if value not in names:
            raise OptionError(f"{name} must be one of {', '.join(names)}, not {value!r}")
        return kinds(value)

    return read


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise OptionError(f"{name} must be true or false, not {value!r}")
    return value


def _headers(value: object, name: str) -> tuple[tuple[str, str | None], ...]:
    """Read `name`, `name: value` or `name=value`, several in a list, or a table."""
    pairs: list[tuple[str, str | None]]
    if isinstance(value, Mapping):
        pairs = [(str(key), str(each)) for key, each in value.items()]
    else:
        lines = value if isinstance(value, (list, tuple)) else [value]
        pairs = []
        for line in lines:
            match = re.fullmatch(r"\s*([^:=\s]+)\s*(?:[:=]\s*(.*?))?\s*", str(line), re.DOTALL)
            if match is None:
                raise OptionError(
                    f"{name}: {line!r} is not a header", hint="for example: --header 'x-user: alice'"
                )
            pairs.append((match[1], match[2]))
    for key, each in pairs:
        if not _TOKEN.fullmatch(key) or (each is not None and re.search(r"[\r\n\0]", each)):
            raise OptionError(
                f"{name}: {key!r} is not a header", hint="for example: --header 'x-user: alice'"
            )
    return tuple((key.lower(), each) for key, each in pairs)


_READERS: Mapping[str, tuple[str, Callable[[object, str], Any]]] = {
    "for": ("lasts", _positive(LONGEST_S)),
    "seed": ("seed", _integer(0, 2**63 - 1)),
    "share": ("share", _share),
    "header": ("headers", _headers),
    "delay": ("delay", _positive(LONGEST_DELAY_S)),
    "jitter": ("jitter", _jitter),
    "distribution": ("distribution", _choice(Distribution)),
    "status": ("status", _integer(200, 599)),
    "reset": ("reset", _flag),
    "when": ("when", _choice(When)),
    "bytes": ("bytes", _size),
    "rate": ("rate", _rate),
    "frames": ("frames", _integer(1, 1_000_000_000)),
    "every": ("every", _positive(LONGEST_S)),
    "offset": ("offset", _offset),
}

__all__ = ["DEFAULT_S", "OptionError", "fault_from", "faults_from_toml"]
