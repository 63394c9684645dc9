"""Errors read alike, wherever they come from: clauses behind `error:` and `hint:`, not sentences."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "msctl"
FAMILY = {
    "MsctlError",
    "UsageError",
    "ConfigError",
    "MismatchError",
    "ExportError",
    "NotRunningError",
    "UnknownServiceError",
    "PortTakenError",
    "BrokerError",
    "BrokerAwayError",
    "BrokerRefusedError",
    "TimedOutError",
    "error",  # KeyRef.error of config/
}
NAMES = {"RabbitMQ", "Kong", "Grafana", "Prometheus"}


def texts(expression: ast.expr) -> Iterator[str]:
    """What an expression may come to, its values as 0; nothing where that cannot be told from here."""
    match expression:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=parts):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "0" for part in parts)
        case ast.IfExp(body=one, orelse=other):
            yield from texts(one)
            yield from texts(other)


def written() -> Iterator[tuple[str, str]]:
    """Each message and hint in the sources, with its place."""
    for file in sorted(SOURCE.rglob("*.py")):
        for call in ast.walk(ast.parse(file.read_text())):
            if not isinstance(call, ast.Call):
                continue
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if name not in FAMILY:
                continue
            hints = [keyword.value for keyword in call.keywords if keyword.arg == "hint"]
            for expression in [*call.args[:1], *hints]:
                for text in texts(expression):
                    yield f"{file.relative_to(SOURCE)}:{call.lineno}", text


@pytest.mark.unmeasured
def test_messages_and_hints_begin_small_and_end_without_a_full_stop() -> None:
    found = list(written())
    assert len(found) > 200
    odd = [
        (place, text)
        for place, text in found
        if text.endswith((".", "\n"))
        or ((first := re.match(r"[A-Z][a-z]+\b|[AI] ", text)) and first.group() not in NAMES)
    ]
    assert odd == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [("'a'", ["a"]), ("f'{x} b.'", ["0 b."]), ("'a' if x else 'B'", ["a", "B"]), ("x", [])],
)
def test_texts_are_read_from_the_source(source: str, expected: list[str]) -> None:
    assert list(texts(ast.parse(source, mode="eval").body)) == expected
