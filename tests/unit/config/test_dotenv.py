"""`.env` files as docker compose reads them."""

from __future__ import annotations

import pytest

from msctl.config.reading.dotenv import DotenvError, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=1", "1"),
        ("export A=1", "1"),
        ("  A = 1  ", "1"),
        ("A: 1", "1"),
        ("A=", ""),
        ("A=a=b", "a=b"),
        ("A=one # comment", "one"),
        ("A=# comment", ""),
        ("A=one#two", "one#two"),
        ("A='${HOME} \\n # x' # c", "${HOME} \\n # x"),
        ('A="a\\nb \\"c\\" \\\\ # d"', 'a\nb "c" \\ # d'),
        ('A="two\nlines"', "two\nlines"),
        ("A='two\nlines'", "two\nlines"),
        ("A=${HOME}/x", "/home/x"),
        ('A="${HOME}"', "/home"),
        ('A="\\${HOME}"', "${HOME}"),
        ("B=b\nA=${B}c", "bc"),
        ("A=${NOWHERE}", ""),
        ("A=${NOWHERE:-d}", "d"),
        ("A=1\nA=2", "2"),
        ("\n# c\n\n  # d\nA=1\n\n", "1"),
        ("A=1\r\nB=2\r\n", "1"),
    ],
)
def test_reads_a_value(text: str, value: str) -> None:
    assert parse(text, {"HOME": "/home"})["A"][0] == value


def test_the_environment_wins_within_a_value() -> None:
    assert parse("B=file\nA=${B}", {"B": "environment"})["A"][0] == "environment"


def test_lines_are_those_of_the_names() -> None:
    found = parse('# first\nA="x\ny"\n\nB=2\n', {})
    assert {name: line for name, (_, line) in found.items()} == {"A": 2, "B": 5}


def test_a_name_without_a_value_is_left_out() -> None:
    assert parse("A\nB=1\n", {}) == {"B": ("1", 2)}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("A=1\n=2", 2, "expected NAME=value"),
        ("A=1\n\n1B=2", 3, "expected NAME=value"),
        ("some words", 1, "expected NAME=value, found some without an equals sign"),
        ('A="open', 1, "the quoted value is not closed, or text follows it"),
        ("A='x' y", 1, "the quoted value is not closed, or text follows it"),
        ("A=${", 1, '"${" must be followed by the name of a variable'),
    ],
)
def test_a_broken_line_is_named(text: str, line: int, message: str) -> None:
    with pytest.raises(DotenvError) as caught:
        parse(text, {})
    assert (caught.value.line, caught.value.message) == (line, message)
