"""The record of a stack is read as it was written, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from msctl.control.paths import StackPaths
from msctl.control.record import StackRecord, clear_record, read_record


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    paths = StackPaths(tmp_path)
    record = StackRecord("shop", "/home/me/shop", 42, 1.5, ("127.0.0.1:8080",), "amqp://me:secret@localhost/")
    record.write(paths)
    assert read_record(paths) == record
    clear_record(paths)
    assert read_record(paths) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"project": "shop"}', '{"pid": "x"}'])
def test_a_malformed_record_is_ignored(tmp_path: Path, text: str) -> None:
    paths = StackPaths(tmp_path)
    paths.record.write_text(text)
    assert read_record(paths) is None
