"""What a log no longer keeps is found in the run's files."""

from __future__ import annotations

from msctl.model.events import LogLine
from msctl.telemetry.logs.older import older_lines


def lines(*texts: str, stream: str = "stdout", instance: str = "a-1", began: float = 0.0) -> list[LogLine]:
    return [LogLine(0, began + n, "a", "info", text, instance, stream=stream) for n, text in enumerate(texts)]


def texts(found: list[LogLine]) -> list[str]:
    return [line.text for line in found]


def test_what_comes_before_the_first_kept_line_is_older() -> None:
    files = lines("1", "2", "3", "4", "5")
    assert texts(older_lines(lines("3", "4", began=50), files)) == ["1", "2"]
    assert older_lines(files, files) == []


def test_repeated_lines_are_placed_from_the_end() -> None:
    files = lines("x", "x", "x", "y", "x", "x", "z")
    assert texts(older_lines(lines("x", "x", "z"), files)) == ["x", "x", "x", "y"]


def test_streams_and_instances_are_placed_each_by_itself() -> None:
    files = [
        *lines("1", "2", began=0),
        *lines("e1", "e2", stream="stderr", began=0.5),
        *lines("1", "2", instance="a-2", began=3),
    ]
    kept = [*lines("2"), *lines("e1", "e2", stream="stderr")]
    assert texts(older_lines(kept, files)) == ["1", "1", "2"]


def test_a_note_of_skipped_lines_is_in_no_file() -> None:
    assert texts(older_lines(lines("… 7 lines skipped", "9"), lines("1", "9"))) == ["1"]


def test_a_stream_of_which_the_file_has_other_lines_is_placed_by_time() -> None:
    assert texts(older_lines(lines("new", began=1.5), lines("1", "2", "3"))) == ["1", "2"]
