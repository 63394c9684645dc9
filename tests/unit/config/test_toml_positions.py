"""Lines of keys: every value of a generated document is the number of the line that it stands on."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.config.toml_positions import Path, line_numbers


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("a = 1", ("a",), 1),
        ("\n# b = 1\nb = 2", ("b",), 3),
        ("[one]\n[two]\nkey = 1", ("two", "key"), 3),
        ("[one]\n[two]\nkey = 1", ("two",), 2),
        ("[a.b.c]\nd = 1", ("a", "b"), 1),
        ("a.b . c = 1\na.d = 2", ("a", "d"), 2),
        ('[services."odd.name"]\n"a b" = 1', ("services", "odd.name", "a b"), 2),
        ("'literal key' = 1", ("literal key",), 1),
        ('"\\u0061b" = 1', ("ab",), 1),
        ('text = """\nb = 1\n"""\nb = 2', ("b",), 4),
        ('text = """\\\n  ends in five: ""\\""""""\nb = 2', ("b",), 3),
        ("text = '''\nb = 1\n''''\nb = 2", ("b",), 4),
        ("text = 'it''s' # no\n".replace("''", " ") + "b = 2", ("b",), 2),
        ('a = [\n  "x",\n  # c\n  "y",\n]', ("a", 1), 4),
        ("a = [[1, 2], [\n3]]", ("a", 1, 0), 2),
        ("a = { b = 1, c = { d = [1] } }\ne = 1", ("a", "c", "d", 0), 1),
        ("a = { b = 1, c = { d = [1] } }\ne = 1", ("e",), 2),
        ("a = [\n{ p = 1 },\n{ p = 2, q = 3 }]", ("a", 1, "q"), 3),
        ("[[r]]\nx = 1\n[[r]]\nx = 2", ("r", 1, "x"), 4),
        ("[[r]]\n[[r.s]]\nx = 1\n[[r]]\n[[r.s]]\nx = 2\n[[r.s]]\nx = 3", ("r", 1, "s", 1, "x"), 8),
        ("[[r]]\n[r.t]\nx = 1\n[[r]]\n[r.t]\nx = 2", ("r", 1, "t", "x"), 6),
        ("when = 1979-05-27 07:32:00\nb = 1", ("b",), 2),
        ("when = [1979-05-27 07:32:00, 1979-05-27]\nb = 1", ("b",), 2),
        ('a = "# no [comment]"\nb = 1', ("b",), 2),
        ("a = 1\r\n\r\nb = 2\r\n", ("b",), 3),
    ],
)
def test_a_key_is_found_on_its_line(text: str, path: Path, line: int) -> None:
    tomllib.loads(text)  # the table itself is TOML
    assert line_numbers(text)[path] == line


@pytest.mark.parametrize("text", ["", "= 1", "[a", "a = [1", 'a = "x', "a = { b", "]]", '"""'])
def test_what_is_not_toml_ends_the_walk(text: str) -> None:
    assert isinstance(line_numbers(text), dict)


class _Writer:
    """Writes TOML in which each number is the line it stands on."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def number(self) -> None:
        self.write(str(self.text.count("\n") + 1))

    def key(self, name: str) -> None:
        forms = [name, f'"{name}"', f"'{name}'", f'"\\u{ord(name[0]):04x}{name[1:]}"']
        self.write(self._draw(st.sampled_from(forms)))

    def blank(self) -> None:
        noise = ["", "\n", "# a = [1]\n", "\t\n  # ''' \"\n"]
        self.write(self._draw(st.sampled_from(noise)))

    def value(self, depth: int) -> None:
        kind = self._draw(
            st.sampled_from(["number", "number", "text", "array", "inline"] if depth else ["number"])
        )
        if kind == "text":
            self.write('[ """\nx = 1 # \\""" """, ')
            self.number()
            self.write(", '''it's\n[y]''', 1979-05-27T07:32:00Z ]")
        elif kind == "array":
            self.write("[")
            for _ in range(self._draw(st.integers(0, 3))):
                self.blank()
                self.value(depth - 1)
                self.blank()
                self.write(",")
            self.write("]")
        elif kind == "inline":
            self.write("{ ")
            for index, name in enumerate(self._names(2)):
                self.write(", " if index else "")
                self.key(name)
                self.write(" = ")
                self.number()
            self.write(" }")
        else:
            self.number()

    def pairs(self) -> None:
        for name in self._names(3):
            self.blank()
            self.key(name)
            if self._draw(st.booleans()):
                self.write(" . ")
                self.key("leaf")
            self.write(" = ")
            self.value(2)
            self.write(self._draw(st.sampled_from(["\n", " # 'end\n"])))

    def document(self) -> str:
        self.pairs()
        for name in self._names(3, "t"):
            if self._draw(st.booleans()):
                self.write(f"[{name}]\n")
                self.pairs()
                self.write(f"[ {name} . inner ]\n")
                self.pairs()
            else:
                for _ in range(self._draw(st.integers(1, 3))):
                    self.write(f"[[{name}]]\n")
                    self.pairs()
                    self.write(f"[[{name}.'deep']]\n")
                    self.pairs()
                    self.write(f"[{name}.deep.x]\n")
                    self.pairs()
        return self.text

    def _names(self, most: int, prefix: str = "k") -> list[str]:
        return [f"{prefix}{index}-_" for index in range(self._draw(st.integers(0, most)))]


@st.composite
def documents(draw: st.DrawFn) -> str:
    return _Writer(draw).document()


@given(documents())
def test_every_value_is_found_where_it_stands(text: str) -> None:
    lines = line_numbers(text)
    for path, value in _leaves(tomllib.loads(text), ()):
        assert lines[path] == value, path


def _leaves(value: Any, path: Path) -> list[tuple[Path, int]]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _leaves(item, (*path, key))]
    if isinstance(value, list):
        return [leaf for index, item in enumerate(value) for leaf in _leaves(item, (*path, index))]
    return [(path, value)] if isinstance(value, int) else []
