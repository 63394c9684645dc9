"""Lines of one stream are joined to records."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.telemetry.logs.records import MAX_LINES, RecordJoiner


def joined(text: str) -> list[str]:
    joiner = RecordJoiner()
    records = [record for line in text.split("\n") if (record := joiner.add(line)) is not None]
    last = joiner.flush()
    return records if last is None else [*records, last]


PYTHON = """ERROR:root:failed
Traceback (most recent call last):
  File "a.py", line 1, in f
    1/0
ZeroDivisionError: division by zero

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "a.py", line 2, in g
ValueError: x"""
JAVA = "Exception in thread main\n\tat a.b(C.java:1)\nCaused by: y\n\tat d.e\n\t... 3 more"
GO = "panic: x\n\ngoroutine 1 [running]:\nmain.main()\n\t/x.go:1 +0x1d\nexit status 2"
NODE = "TypeError: x\n    at f (a.js:1:2) {\n  code: 'E'\n}"
GROUP = """  + Exception Group Traceback (most recent call last):
  |   File "a.py", line 1
  | ExceptionGroup: two (2 sub-exceptions)
  +-+---------------- 1 ----------------"""


@pytest.mark.parametrize("block", [PYTHON, JAVA, NODE, GROUP], ids=["python", "java", "node", "group"])
def test_a_traceback_is_one_record(block: str) -> None:
    assert (
        joined(f"before\n{block}\nafter")[-2:]
        == [block if block is not GROUP else f"before\n{block}", "after"][-2:]
    )


def test_a_panic_of_go_is_one_record() -> None:
    assert joined(f"before\n{GO}")[1].startswith("panic: x\n\ngoroutine 1")


def test_plain_lines_are_records_of_their_own() -> None:
    assert joined("a\nb\n\nc") == ["a", "b", "", "c"]


def test_a_line_after_a_traceback_begins_a_record() -> None:
    assert joined("Traceback (most recent call last):\n  x\nKeyError\nnext: line")[-1] == "next: line"


def test_a_record_without_end_is_given_out_in_pieces() -> None:
    records = joined("head\n" + "\n".join(["  x"] * 3 * MAX_LINES))

    assert len(records) == 4
    assert max(record.count("\n") for record in records) < MAX_LINES


@given(st.lists(st.text(st.characters(exclude_characters="\n"), max_size=20), max_size=40))
def test_no_line_is_lost(lines: list[str]) -> None:
    records = joined("\n".join(lines))

    assert [line for record in records for line in record.split("\n") if line.strip()] == [
        line for line in lines if line.strip()
    ]
