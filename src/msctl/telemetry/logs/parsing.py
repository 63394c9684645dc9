"""Reads what programs print: the level, message, trace and fields of one line. Pure.

Recognised are JSON lines, logfmt, and the prefixes of the common loggers (Python's logging, uvicorn, celery,
log4j and logback, zap, zerolog, glog, nginx, PostgreSQL, Redis, env_logger). What is not recognised stays as
it is: a wrong level misleads more than a missing one, so a level counts only where nothing but times,
brackets and a logger's name stands before it. The work is linear in a line's length, and a few words long for
a line without a prefix.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

LEVELS = {
    "trace": "debug",
    "trc": "debug",
    "debug": "debug",
    "dbg": "debug",
    "dbug": "debug",
    "verbose": "debug",
    "log": "info",
    "info": "info",
    "inf": "info",
    "information": "info",
    "notice": "info",
    "statement": "info",
    "warn": "warning",
    "wrn": "warning",
    "warning": "warning",
    "error": "error",
    "err": "error",
    "eror": "error",
    "severe": "error",
    "fail": "error",
    "critical": "critical",
    "crit": "critical",
    "fatal": "critical",
    "ftl": "critical",
    "panic": "critical",
    "alert": "critical",
    "emerg": "critical",
    "emergency": "critical",
}
"""The words for a level, in lower case, and ours for each."""

SEVERITY = {"debug": 0, "info": 1, "warning": 2, "error": 3, "critical": 4}
"""Our levels in order."""

MAX_FIELDS = 16
"""Fields kept of one line."""
MAX_FIELD = 256
"""Characters kept of one field's text."""

LONG = 32 * 1024
"""Characters of a line that may have been cut."""

Value = str | int | float | bool

_LEVEL_KEYS = ("level", "severity", "levelname", "lvl", "log.level", "loglevel", "severity_text", "@l")
_MESSAGE_KEYS = ("message", "msg", "event", "body", "@m", "text", "short_message")
_TRACE_KEYS = ("trace_id", "traceId", "traceid", "trace.id", "otelTraceID", "TraceId", "trace")
_SPAN_KEYS = ("span_id", "spanId", "spanid", "span.id", "otelSpanID", "SpanId")
_TRACE_ID = re.compile(r"\A[0-9a-f]{32}\Z")
_TRACE_IN_TEXT = re.compile(r"\btrace_?id[=:]\s?\"?([0-9a-f]{32})\b", re.IGNORECASE)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_GLOG = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d")
_GLOG_LEVELS = {"I": "info", "W": "warning", "E": "error", "F": "critical"}
_REDIS = re.compile(r"\d+:[MSCX] \d\d \w{3} \d{4} \d\d:\d\d:\d\d\.\d{3} ([.\-*#]) ")
_REDIS_LEVELS = {".": "debug", "-": "debug", "*": "info", "#": "warning"}
_STACK = re.compile(r"^(Traceback \(most recent|\s+at \S|goroutine \d+ \[|panic: |Caused by: )", re.MULTILINE)
_PAIR = re.compile(r'([A-Za-z_][\w.\-]*)=(?:"((?:[^"\\]|\\.)*)"|(\S*))\s*')
_JSON_STRING = r'"(?:[^"\\]|\\.)*+"'
_JSON_PAIR = re.compile(rf"\s*({_JSON_STRING})\s*:\s*({_JSON_STRING}|[-+.\w]++)\s*,")
_SEPARATORS = frozenset({"-", "--", "|", ":", "::"})
_PINO = ((10, "debug"), (20, "debug"), (30, "info"), (40, "warning"), (50, "error"), (60, "critical"))
_WORDS = 8
"""How many words of a line may stand before its level."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a line says; `level` is None where it names none, `text` the message to show."""

    text: str
    level: str | None = None
    trace: str | None = None
    fields: dict[str, Value] = field(default_factory=dict)


def parse(line: str) -> Parsed:
    """Read one line; never fails."""
    if line.startswith("{"):
        found = _json(line)
        if found is not None:
            return found
    elif "=" in line and (found := _logfmt(line)) is not None:
        return found
    return Parsed(line, level_of(line), _trace_in(line))


def parse_record(text: str) -> Parsed:
    """Read a record of one or several lines (see records.py); a traceback or a stack is an error."""
    first, newline, rest = text.partition("\n")
    found = parse(first)
    if not newline:
        return found
    if found.text is first:
        shown = text
    else:  # the message of a JSON or logfmt line, and what follows it
        shown = f"{found.text}\n{rest}"
    level = found.level or ("error" if _STACK.search(text) else None)
    return Parsed(shown, level, found.trace, found.fields)


def level_of(line: str) -> str | None:
    """The level that the line's prefix names, if it has one."""
    if "\x1b" in line:
        line = _COLOURS.sub("", line)
    head = line[:200]
    if head[:1].isdigit() and (redis := _REDIS.match(head)):
        return _REDIS_LEVELS[redis[1]]
    if head[:1] in _GLOG_LEVELS and _GLOG.match(head):
        return _GLOG_LEVELS[head[0]]
    words = head.split(None, _WORDS)[:_WORDS]
    opened = False
    for at, word in enumerate(words):
        bracketed = opened or word[0] in "[(<|"
        core = word.strip("[]()<>|,;")
        name, colon, _ = core.partition(":")
        name = name.partition("/")[0]
        level = LEVELS.get(name.lower())
        if level is None and bracketed and colon:  # Apache's [core:error]
            level = LEVELS.get(core.rpartition(":")[2].lower())
        if level is not None and (bracketed or name.isupper() or (at == 0 and colon)):
            return level
        opened = bracketed and word[-1] not in "])>"
        following = words[at + 1] if at + 1 < len(words) else ""
        if not (
            bracketed
            or core[:1].isdigit()
            or word in _SEPARATORS
            or core in ("UTC", "GMT")
            or (following in _SEPARATORS and at < _WORDS - 1)
        ):
            return None
    return None


def _trace_in(line: str) -> str | None:
    if "race" not in line:
        return None
    found = _TRACE_IN_TEXT.search(line)
    return found[1].lower() if found and set(found[1]) != {"0"} else None


def _json(line: str) -> Parsed | None:
    try:
        document = msgspec.json.decode(line.encode("utf-8", "surrogateescape"))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _beginning(line) if len(line) >= LONG else None
    if not isinstance(document, dict) or not document:
        return None
    flat: dict[str, object] = {}
    _flatten(document, "", flat)
    return _record(flat, line)


def _beginning(line: str) -> Parsed | None:
    """Read the plain values at the beginning of a JSON line so long that its end was cut off."""
    pairs: dict[str, object] = {}
    at = 1
    while len(pairs) <= 4 * MAX_FIELDS and (found := _JSON_PAIR.match(line, at)) is not None:
        try:
            pairs[msgspec.json.decode(found[1])] = msgspec.json.decode(found[2])
        except msgspec.DecodeError:
            break
        at = found.end()
    if not any(key in pairs for key in (*_LEVEL_KEYS, *_MESSAGE_KEYS)):
        return None
    return _record(pairs, line)


def _logfmt(line: str) -> Parsed | None:
    """Read `key=value` pairs; None unless the whole line consists of them and names a level or a message."""
    pairs: dict[str, object] = {}
    at = 0
    while at < len(line):
        found = _PAIR.match(line, at)
        if found is None:
            return None
        key, quoted, bare = found.groups()
        pairs[key] = bare if quoted is None else re.sub(r"\\(.)", _unescaped, quoted)
        at = found.end()
        if len(pairs) > 4 * MAX_FIELDS:
            break
    if len(pairs) < 2 or not any(key in pairs for key in (*_LEVEL_KEYS, *_MESSAGE_KEYS)):
        return None
    return _record(pairs, line)


def _unescaped(found: re.Match[str]) -> str:
    return {"n": "\n", "t": "\t"}.get(found[1], found[1])


def _record(pairs: dict[str, object], line: str) -> Parsed:
    level = _level(_take(pairs, _LEVEL_KEYS))
    trace = _take(pairs, _TRACE_KEYS, _is_trace)
    message = _take(pairs, _MESSAGE_KEYS, lambda value: isinstance(value, str))
    span = _take(pairs, _SPAN_KEYS)
    fields: dict[str, Value] = {}
    if span is not None:
        fields["span_id"] = _short(span)
    for key, value in pairs.items():
        if len(fields) == MAX_FIELDS:
            break
        if value is not None and value != "":
            fields[key[:MAX_FIELD]] = _short(value)
    return Parsed(
        str(message) if message else line, level, None if trace is None else str(trace).lower(), fields
    )


def _take(
    pairs: dict[str, object], keys: tuple[str, ...], fits: Callable[[object], bool] | None = None
) -> object | None:
    """Remove and return the first of these values that there is."""
    for key in keys:
        value = pairs.get(key)
        if value is not None and (fits is None or fits(value)):
            return pairs.pop(key)
    return None


def _is_trace(value: object) -> bool:
    return isinstance(value, str) and _TRACE_ID.match(value.lower()) is not None and set(value) != {"0"}


def _level(value: object) -> str | None:
    if isinstance(value, str):
        return LEVELS.get(value.strip().lower())
    if isinstance(value, int) and not isinstance(value, bool):
        return next((name for bound, name in _PINO if value <= bound), "critical")
    return None


def _flatten(value: dict[str, object], prefix: str, flat: dict[str, object], depth: int = 0) -> None:
    """Join the names of nested objects with dots, three levels deep; what is deeper stays JSON."""
    for key, inner in value.items():
        name = f"{prefix}{key}"
        if isinstance(inner, dict) and inner and depth < 2:
            _flatten(inner, f"{name}.", flat, depth + 1)
        else:
            flat.setdefault(name, inner)
        if len(flat) > 4 * MAX_FIELDS:
            return


def _short(value: object) -> Value:
    if isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode("utf-8", "replace")
    return text if len(text) <= MAX_FIELD else f"{text[:MAX_FIELD]}…"
