"""Patterns of permissions and policies find what `re` finds, and never take long."""

from __future__ import annotations

import re
from re import _parser as parser  # type: ignore[attr-defined]
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.broker.core.patterns import Pattern, PatternError, _compile, _Machine

NAMES = ("", "a", "ab", "aab", "abc.d", "amq.gen-x", "Orders", "orders.eu.1", "x" * 12, "a_b", "a\n", "é")
PATTERNS = (
    *("", ".*", "^$", "^a", "b$", "^a+b?$", "(?i)orders", "^(?!amq\\.).*", "a|b.c", "[^a-c]+", "\\d", "\\ba"),
    *(
        "^(a|ab)+$",
        "(x+x+)+y",
        "^(?:[a-z]+\\.?)+$",
        "(?i)^(O[^R]*)+$",
        "(a*)*b",
        "^(.*?b)+$",
        "(?<=a)b",
        "(?<!a)b",
    ),
    *("^[\\w.]+$", "(?>a+)b", "a{2,3}b", "(ab?){1,3}$", "(?:a++b)+", "(?=.*\\d)(?=.*s).*", "\\Aa\\Z", "a$"),
    *("^(?i:ORDERS).*[0-9]$", "(?s:.)+(.)+$", "(?!)|(a+)+", "(.|\n)+z?$"),
)


@pytest.mark.parametrize("text", PATTERNS)
def test_machine_and_re_agree(text: str) -> None:
    compiled = re.compile(text.encode())
    machine = _compile(parser.parse(text.encode()))
    for name in NAMES:
        expected = compiled.search(name.encode()) is not None
        assert Pattern(text).matches(name) is expected, name
        assert _Machine(name.encode()).search(machine) is expected, name


@given(
    st.from_regex(
        r"\A([ab.]|[ab]\?|[ab]\*|\(a\|b\)|\[\^b\]|\(ab?\)\+|\(\?=a\)|\(\?!b\)|\^|\$|\(a\*\)\*){0,8}\Z"
    )
)
def test_machine_and_re_agree_on_made_up_patterns(text: str) -> None:
    compiled, machine = re.compile(text.encode()), _compile(parser.parse(text.encode()))
    for name in ("", "a", "b", "ab", "ba", "abab", "aabb.a", "bbaab"):
        assert _Machine(name.encode()).search(machine) is (compiled.search(name.encode()) is not None)


@pytest.mark.parametrize(
    "text",
    [
        "^(a+)+$",
        "(a|a)*b",
        "^(([a-z])+.)+[A-Z]([a-z])+$",
        "(.*)(.*)(.*)(.*)x",
        "(?=(a+)+b)",
        "((a?){40}){40}",
    ],
)
def test_pathological_pattern_ends_within_its_steps(text: str) -> None:
    began = process_time()
    try:
        assert not Pattern(text).matches("a" * 254 + "!") or text.startswith("((a?)")
    except PatternError as error:
        assert "too large" in str(error)
    assert process_time() - began < 5


def test_posix_class_is_understood() -> None:
    assert Pattern("^[[:alpha:]_]+$").matches("orders_a")
    assert not Pattern("^[[:alpha:]_]+$").matches("orders1")


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("(", "missing )"),
        ("[z-a]", "bad character range"),
        ("*", "nothing to repeat"),
        ("a" * 5000, "longer than"),
        ("(" * 2000 + ")" * 2000, "nested too deeply"),
        ("(a)\\1+(b+)+", "backreferences"),
        ("((a?){100}){100}", "too large"),
    ],
)
def test_unusable_pattern_says_why(text: str, fragment: str) -> None:
    with pytest.raises(PatternError, match=re.escape(fragment)):
        Pattern(text)
