"""The log file keeps the last lines and never grows beyond its cap."""

from __future__ import annotations

from pathlib import Path

from msctl.model.snapshots import LogLine
from msctl.telemetry.logs.logfile import LogFile


def test_lines_are_written_with_time_level_and_service(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "stack.log")
    file.write(LogLine(1, 1700000000.25, "users", "error", "it broke"))
    file.close()
    assert (tmp_path / "stack.log").read_text() == "1700000000.250 error users | it broke\n"


def test_a_full_file_is_rotated_once(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "stack.log", max_bytes=500)
    for number in range(100):
        file.write(LogLine(number, 0.0, "users", "info", f"line {number}"))
    file.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["stack.log", "stack.log.1"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1000
    assert "line 99" in (tmp_path / "stack.log").read_text()
