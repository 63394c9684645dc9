"""Whether a trace is one that somebody looks for. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from msctl.errors import UsageError
from msctl.model.traces import SpanEvent

Attributes = Mapping[str, str | int | float | bool]
SpanTexts = tuple[str, str, Attributes, tuple[SpanEvent, ...]]
"""Of a span: its service, its name, its attributes and events."""

_STATUS = re.compile(r"([1-5])(xx|\d\d)", re.IGNORECASE)


def status_matcher(wanted: str) -> Callable[[int | None], bool]:
    """A predicate for `404`, `5xx` and the like; empty takes all. Raises UsageError."""
    if not wanted:
        return lambda _: True
    found = _STATUS.fullmatch(wanted)
    if found is None:
        raise UsageError(f"status {wanted!r} is neither a status nor a class", hint="use 404, or 5xx")
    first, rest = int(found[1]), found[2].lower()
    if rest == "xx":
        return lambda status: status is not None and status // 100 == first
    exact = int(wanted)
    return lambda status: status == exact


def text_matcher(wanted: str) -> Callable[[Iterable[SpanTexts]], bool]:
    """A predicate for spans of which one has the text in its service, name, attributes or events.

    Upper and lower case are alike. `key=value` finds spans with exactly this attribute.
    """
    needle = wanted.lower()
    key, equals, value = wanted.partition("=")
    named = key if equals and re.fullmatch(r"[\w.\-]+", key) else None

    def has(span: SpanTexts) -> bool:
        service, name, attributes, events = span
        if named is not None and str(attributes.get(named, "\0")) == value:
            return True
        if needle in name.lower() or needle in service.lower():
            return True
        everything = [attributes, *(event.attributes for event in events)]
        return any(needle in str(text).lower() for one in everything for text in one.values())

    return lambda spans: not needle or any(map(has, spans))
