"""Regular expressions of operators, searched in bounded time: permissions and policies. Pure.

Python's `re` backtracks and cannot be interrupted: `^(a+)+$` takes hours on a name of 40 letters, on the
event loop. RabbitMQ has the same kind of engine with a limit of steps, above which nothing matches.

Theory. A pattern is cheap if it repeats only single characters and has few places where a search can go on
in several ways: then the steps are at most a small power of a name's length (255 bytes), and `re` searches.
Any other pattern is compiled from `re`'s own syntax tree to a program for a backtracking machine that
remembers which pairs of instruction and position have failed. Whether the rest of a program matches depends
on this pair alone, as long as there are no backreferences, so each pair is tried once and the steps are at
most the size of the program times the length of the name. `MAX_STEPS` bounds them further; above it nothing
matches, so that a permission is refused. Backreferences beside repetitions are refused when the pattern is
read.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from re import _constants as ops  # type: ignore[attr-defined]  # the syntax tree has no public name
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

MAX_PATTERN = 4096
MAX_PROGRAM = 4096
MAX_STEPS = 50_000
"""About 20 ms of a busy machine."""

_POSIX = {
    b"alpha": b"a-zA-Z",
    b"digit": b"0-9",
    b"alnum": b"a-zA-Z0-9",
    b"upper": b"A-Z",
    b"lower": b"a-z",
    b"space": rb"\s",
    b"xdigit": b"0-9A-Fa-f",
    b"word": rb"\w",
    b"punct": rb"!-/:-@\[-`{-~",
}
_POSIX_CLASS = re.compile(rb"\[:(%s):\]" % b"|".join(_POSIX))


class PatternError(ValueError):
    """A pattern that is not a regular expression, or one that is not supported."""


class Pattern:
    """A regular expression; `matches` searches it anywhere in a name."""

    __slots__ = ("_program", "_search", "text")

    def __init__(self, text: str) -> None:
        """Raises PatternError with what is wrong."""
        self.text = text
        source = text.encode(errors="surrogateescape")
        if len(source) > MAX_PATTERN:
            raise PatternError(f"it is longer than {MAX_PATTERN} bytes")
        source = _POSIX_CLASS.sub(lambda found: _POSIX[found[1]], source)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = parser.parse(source)
                compiled = re.compile(source)
            choices = _Choices()
            choices.count(tree)
        except (re.error, OverflowError) as error:
            raise PatternError(str(error)) from None
        except RecursionError:
            raise PatternError("it is nested too deeply") from None
        self._search = compiled.search if choices.cheap(tree) else None
        self._program: _Program | None = None
        if self._search is None:
            if choices.references:
                raise PatternError("backreferences beside repetitions are not supported")
            self._program = _compile(tree)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def matches(self, name: str) -> bool:
        """Whether the pattern matches somewhere in `name`."""
        subject = name.encode(errors="surrogateescape")
        if self._search is not None:
            return self._search(subject) is not None
        if self._program is None:
            return False
        return _Machine(subject).search(self._program)


class _Choices:
    """Counts the places where a search can go on in several ways; they multiply."""

    def __init__(self) -> None:
        self.places = 0
        self.repeated = False
        self.references = False

    def count(self, tree: Any) -> None:
        for op, value in tree:
            if op in _REPEATS:
                low, high, part = value
                self.places += low != high
                # Repeating anything but one character can divide a name in exponentially many ways.
                self.repeated = self.repeated or (high > 1 and not _is_character(part))
                self.count(part)
            elif op in (ops.GROUPREF, ops.GROUPREF_EXISTS):
                self.references = True
            else:
                self.places += op is ops.BRANCH
                for part in _parts(op, value):
                    self.count(part)

    def cheap(self, tree: Any) -> bool:
        anchored = len(tree) > 0 and tree[0][0] is ops.AT and tree[0][1] in _BEGINNINGS
        return not self.repeated and self.places <= (2 if anchored else 1)


def _is_character(tree: Any) -> bool:
    """Whether a tree matches exactly one character and has no choice."""
    if len(tree) != 1:
        return False
    op, value = tree[0]
    return _is_character(value[3]) if op is ops.SUBPATTERN else op in _CHARACTERS


_CHARACTERS = (ops.LITERAL, ops.NOT_LITERAL, ops.ANY, ops.IN)
_REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT)
_BEGINNINGS = (ops.AT_BEGINNING, ops.AT_BEGINNING_STRING)


def _parts(op: Any, value: Any) -> Iterable[Any]:
    """The sub-patterns of a node that is no repetition."""
    if op is ops.BRANCH:
        return value[1]  # type: ignore[no-any-return]
    if op is ops.SUBPATTERN:
        return (value[3],)
    if op in (ops.ASSERT, ops.ASSERT_NOT):
        return (value[1],)
    return (value,) if op is ops.ATOMIC_GROUP else ()


# --- the machine ---

_Program = list[tuple[Any, ...]]
_SET, _SPLIT, _AT, _LOOK, _ATOMIC, _FAIL, _MATCH = range(7)


class _Machine:
    """Runs programs over one name; the steps of all runs count together."""

    def __init__(self, subject: bytes) -> None:
        self._subject = subject
        self._steps = MAX_STEPS

    def search(self, program: _Program) -> bool:
        failed: set[tuple[int, int]] = set()
        try:
            return any(
                self._run(program, start, failed) is not None for start in range(len(self._subject) + 1)
            )
        except _TooManyStepsError:
            return False

    def _run(self, program: _Program, start: int, failed: set[tuple[int, int]]) -> int | None:
        """The end of the first match from `start`, or None. Adds to `failed` what leads to no match."""
        subject = self._subject
        todo = [(0, start)]
        while todo:
            state = todo.pop()
            if state in failed:
                continue
            failed.add(state)
            self._steps -= 1
            if self._steps < 0:
                raise _TooManyStepsError
            at, position = state
            op, *values = program[at]
            if op == _SET:
                if position < len(subject) and values[0][subject[position]]:
                    todo.append((at + 1, position + 1))
            elif op == _SPLIT:
                todo.append((values[1], position))
                todo.append((values[0], position))
            elif op == _AT:
                if _is_at(values[0], subject, position):
                    todo.append((at + 1, position))
            elif op == _LOOK:
                wanted, back, part = values
                found = position >= back and self._run(part, position - back, set()) is not None
                if found is wanted:
                    todo.append((at + 1, position))
            elif op == _ATOMIC:
                end = self._run(values[0], position, set())
                if end is not None:
                    todo.append((at + 1, end))
            elif op == _MATCH:
                return position
        return None


class _TooManyStepsError(Exception):
    """The search takes more than MAX_STEPS."""


def _is_at(code: Any, subject: bytes, position: int) -> bool:
    size = len(subject)
    if code in _BEGINNINGS:
        return position == 0
    if code is ops.AT_END:
        return position == size or (position == size - 1 and subject[position:] == b"\n")
    if code is ops.AT_END_STRING:
        return position == size
    before = position > 0 and _is_word(subject[position - 1])
    after = position < size and _is_word(subject[position])
    return (before is not after) is (code is ops.AT_BOUNDARY)


def _is_word(byte: int) -> bool:
    return byte == 0x5F or (byte < 128 and chr(byte).isalnum())


# --- compiling ---


def _compile(tree: Any) -> _Program:
    compiler = _Compiler()
    compiler.add(tree, tree.state.flags)
    compiler.program.append((_MATCH,))
    return compiler.program


class _Compiler:
    """Appends the instructions of syntax trees to `program`."""

    def __init__(self) -> None:
        self.program: _Program = []

    def add(self, tree: Any, flags: int) -> None:
        for op, value in tree:
            if len(self.program) > MAX_PROGRAM:
                raise PatternError("it is too large")
            if op in _REPEATS:
                low, high, part = value
                self._repeat(op, low, high, part, flags)
            elif op is ops.BRANCH:
                self._branch(value[1], flags)
            elif op is ops.SUBPATTERN:
                self.add(value[3], (flags | value[1]) & ~value[2])
            elif op is ops.ATOMIC_GROUP:
                self.program.append((_ATOMIC, self._part(value, flags)))
            elif op in (ops.ASSERT, ops.ASSERT_NOT):
                back = value[1].getwidth()[0] if value[0] < 0 else 0
                self.program.append((_LOOK, op is ops.ASSERT, back, self._part(value[1], flags)))
            elif op is ops.AT:
                self.program.append((_AT, value))
            elif op is ops.FAILURE:
                self.program.append((_FAIL,))
            else:
                self.program.append((_SET, _table(op, value, flags)))

    def _part(self, tree: Any, flags: int) -> _Program:
        compiler = _Compiler()
        compiler.add(tree, flags)
        return [*compiler.program, (_MATCH,)]

    def _branch(self, parts: Any, flags: int) -> None:
        jumps = []
        for part in parts[:-1]:
            split = self._reserve()
            self.add(part, flags)
            jumps.append(self._reserve())
            self.program[split] = (_SPLIT, split + 1, len(self.program))
        self.add(parts[-1], flags)
        for jump in jumps:
            self.program[jump] = (_SPLIT, len(self.program), len(self.program))

    def _repeat(self, op: Any, low: int, high: int, part: Any, flags: int) -> None:
        if op is ops.POSSESSIVE_REPEAT:
            inner = _Compiler()
            inner._repeat(ops.MAX_REPEAT, low, high, part, flags)
            self.program.append((_ATOMIC, [*inner.program, (_MATCH,)]))
            return
        lazy = op is ops.MIN_REPEAT
        for _ in range(low):
            self.add(part, flags)
        if high is ops.MAXREPEAT:
            split = self._reserve()
            self.add(part, flags)
            self.program.append((_SPLIT, split, split))
            self._split(split, lazy=lazy)
            return
        splits = []
        for _ in range(high - low):
            splits.append(self._reserve())
            self.add(part, flags)
        for split in splits:
            self._split(split, lazy=lazy)

    def _split(self, at: int, *, lazy: bool) -> None:
        """At `at`, either go on behind it or leave to the present end of the program."""
        go_on, leave = at + 1, len(self.program)
        self.program[at] = (_SPLIT, leave, go_on) if lazy else (_SPLIT, go_on, leave)

    def _reserve(self) -> int:
        self.program.append((_FAIL,))
        return len(self.program) - 1


def _table(op: Any, value: Any, flags: int) -> list[bool]:
    """For each byte, whether the node matches it. Raises PatternError for a node of another kind."""
    found = [_matches(op, value, byte, flags) for byte in range(256)]
    if flags & re.IGNORECASE:
        swapped = [ord(chr(byte).swapcase()) if byte < 128 else byte for byte in range(256)]
        negated = op is ops.NOT_LITERAL or (op is ops.IN and value[0][0] is ops.NEGATE)
        join = all if negated else any
        found = [join((found[byte], found[swapped[byte]])) for byte in range(256)]
    return found


def _matches(op: Any, value: Any, byte: int, flags: int) -> bool:
    if op is ops.LITERAL:
        return byte == value  # type: ignore[no-any-return]
    if op is ops.NOT_LITERAL:
        return byte != value  # type: ignore[no-any-return]
    if op is ops.ANY:
        return byte != 10 or bool(flags & re.DOTALL)
    if op is ops.RANGE:
        return value[0] <= byte <= value[1]  # type: ignore[no-any-return]
    if op is ops.CATEGORY:
        return _CATEGORIES[value].match(bytes((byte,))) is not None
    if op is ops.IN:
        negated = value[0][0] is ops.NEGATE
        return negated is not any(_matches(kind, inner, byte, flags) for kind, inner in value[negated:])
    raise PatternError(f"it has {str(op).lower()}, which is not supported")


_CATEGORIES = {
    ops.CATEGORY_DIGIT: re.compile(rb"\d"),
    ops.CATEGORY_NOT_DIGIT: re.compile(rb"\D"),
    ops.CATEGORY_SPACE: re.compile(rb"\s"),
    ops.CATEGORY_NOT_SPACE: re.compile(rb"\S"),
    ops.CATEGORY_WORD: re.compile(rb"\w"),
    ops.CATEGORY_NOT_WORD: re.compile(rb"\W"),
}
