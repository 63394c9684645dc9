"""Tables that fit the terminal.

A table that is too wide first loses its empty columns, then its least important ones. A last column
marked `below` (the reason) is never cut: where it does not fit beside its row, it follows on lines of
its own. Drawn by hand: importing rich would double the time of `msctl status`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from msctl.cli.output.terminal import BOLD, cells, colours, paint, plain, terminal_width

_GAP = "  "
_INDENT = "    "
_NOTHING = ("", "-")

Cell = str | tuple[str, int]
"""A text, or a text and its SGR colour."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column's title, and what may happen to it: the highest `drop` goes first, 0 never goes."""

    title: str
    drop: int = 0
    below: bool = False


def table(columns: Sequence[str | Column], rows: Iterable[Sequence[Cell]]) -> Iterator[str]:
    """Yield a header and one line per row, fitted to the terminal on standard output."""
    return fitted(columns, rows, terminal_width(), coloured=colours(sys.stdout))


def fitted(
    columns: Sequence[str | Column],
    rows: Iterable[Sequence[Cell]],
    width: int | None,
    *,
    coloured: bool = False,
) -> Iterator[str]:
    """Yield the lines of a table that is at most `width` columns wide (None: as wide as it is)."""
    heads = [Column(column) if isinstance(column, str) else column for column in columns]
    body = [[_cell(cell) for cell in row] for row in rows]
    kept = list(range(len(heads)))
    if width is not None:
        kept = _kept(heads, body, width)
    below = kept.pop() if heads[kept[-1]].below else None
    if width is not None and below is not None and all(row[below][0] in _NOTHING for row in body):
        below = None
    lines = [[(heads[i].title, BOLD) for i in kept], *([row[i] for i in kept] for row in body)]
    notes = ["" if below is None else text for text in _last(heads, body, below)]
    widths = [max(cells(line[i][0]) for line in lines) for i in range(len(kept))]
    for line, note in zip(lines, notes, strict=True):
        head = _joined(line, widths, coloured=coloured)
        used = sum(widths) + len(_GAP) * len(widths)
        if width is None or used + cells(note) <= width:
            title = paint(note, BOLD) if coloured and line is lines[0] and note else note
            yield f"{head}{_GAP}{title}".rstrip()
        else:
            if head.strip():
                yield head.rstrip()
            if line is not lines[0]:
                yield from _wrapped(note, width)


def _cell(cell: Cell) -> tuple[str, int]:
    text, colour = (cell, 0) if isinstance(cell, str) else cell
    return plain(text), colour


def _kept(heads: Sequence[Column], body: Sequence[Sequence[tuple[str, int]]], width: int) -> list[int]:
    """Return the indices of the columns that stay."""
    sizes = [
        max((cells(text) for text in (head.title, *(row[i][0] for row in body))), default=0)
        for i, head in enumerate(heads)
    ]
    kept = list(range(len(heads)))

    def too_wide() -> bool:
        fixed = [sizes[i] for i in kept if not heads[i].below]
        return sum(fixed) + len(_GAP) * (len(fixed) - 1) > width

    empty = [i for i in kept if heads[i].drop and all(row[i][0] in _NOTHING for row in body)]
    rest = [i for i in kept if heads[i].drop and i not in empty]
    for i in sorted(empty, key=lambda i: -heads[i].drop) + sorted(rest, key=lambda i: -heads[i].drop):
        if not too_wide():
            break
        kept.remove(i)
    return kept


def _last(
    heads: Sequence[Column], body: Sequence[Sequence[tuple[str, int]]], below: int | None
) -> Iterator[str]:
    if below is None:
        yield from ("" for _ in range(len(body) + 1))
    else:
        yield heads[below].title
        yield from (row[below][0] for row in body)


def _joined(line: Sequence[tuple[str, int]], widths: Sequence[int], *, coloured: bool) -> str:
    padded = [
        (text + " " * (width - cells(text)), colour)
        for (text, colour), width in zip(line, widths, strict=True)
    ]
    return _GAP.join(paint(text, colour) if coloured and colour else text for text, colour in padded)


def _wrapped(text: str, width: int) -> Iterator[str]:
    from textwrap import wrap  # only a narrow terminal needs it

    yield from wrap(text, width, initial_indent=_INDENT, subsequent_indent=_INDENT)
