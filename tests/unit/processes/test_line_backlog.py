"""From bytes in a pipe to the lines that wait to be logged."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.processes.line_backlog import LineBacklog


def drained(backlog: LineBacklog) -> list[str]:
    backlog.flush()
    skipped, lines = backlog.take(10**6)
    assert skipped == 0
    return lines


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"on", b"e\ntw", b"o"], ["one", "two"]),
        ([b"windows\r\n"], ["windows"]),
        ([b"\n\n"], ["", ""]),
        ([b"a\n\n\nb\n"], ["a", "", "", "b"]),
        ([b"caf\xc3", b"\xa9\n"], ["café"]),
        ([b"\xff\n"], ["\ufffd"]),
        ([b"0123456789", b"abc\nx\n"], ["0123456789… (3 more bytes cut)", "x"]),
        ([b"a\n0123456789abc\nx\n"], ["a", "0123456789… (3 more bytes cut)", "x"]),
        ([b"0123456789ab"], ["0123456789… (2 more bytes cut)"]),
    ],
)
def test_bytes_become_lines(pieces: list[bytes], lines: list[str]) -> None:
    backlog = LineBacklog(max_line_bytes=10)
    for piece in pieces:
        backlog.feed(piece)
    assert drained(backlog) == lines


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=10))
def test_pieces_of_any_size_give_the_same_lines(data: bytes, cuts: list[int]) -> None:
    whole, parts = LineBacklog(max_line_bytes=16), LineBacklog(max_line_bytes=16)
    edges = sorted({0, len(data), *(min(c, len(data)) for c in cuts)})
    for start, end in itertools.pairwise(edges):
        parts.feed(data[start:end])
    whole.feed(data)
    assert drained(parts) == drained(whole)


@given(st.lists(st.binary(max_size=60).map(lambda data: data.replace(b"x", b"\n")), max_size=30))
def test_every_line_is_taken_or_counted(pieces: list[bytes]) -> None:
    backlog = LineBacklog(max_lines=4, max_bytes=40)
    for piece in pieces:
        backlog.feed(piece)
        assert len(backlog) <= 4
    backlog.flush()
    skipped, lines = backlog.take(100)
    data = b"".join(pieces)
    assert skipped + len(lines) == data.count(b"\n") + bool(data and not data.endswith(b"\n"))


def test_the_newest_lines_are_kept_and_the_older_ones_counted() -> None:
    backlog = LineBacklog(max_lines=3)
    backlog.feed(b"0\n")
    backlog.feed(b"".join(b"%d\n" % n for n in range(1, 10)))
    assert backlog.take(2) == (7, ["7", "8"])
    assert backlog.take(2) == (0, ["9"])


def test_bytes_that_wait_are_bounded() -> None:
    backlog = LineBacklog(max_bytes=1000)
    for _ in range(50):
        backlog.feed(b"x" * 300 + b"\n")
    skipped, lines = backlog.take(100)
    assert (skipped, len(lines)) == (47, 3)


def test_a_line_without_end_costs_no_more_than_a_long_one() -> None:
    backlog = LineBacklog(max_line_bytes=100)
    for _ in range(1000):
        backlog.feed(b"y" * 1000)
    assert len(backlog) == 0
    assert drained(backlog) == ["y" * 100 + "… (999900 more bytes cut)"]
