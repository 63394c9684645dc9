"""What a run printed is in its files, and a bad disk delays nobody."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from msctl.model.events import LogLine
from msctl.telemetry.logs import run_files
from msctl.telemetry.logs.run_files import RunFiles, read_run, services_of
from tests.support.clock import FakeClock


def written(folder: Path, pieces: list[tuple[str, str, str, bytes]], **options: int) -> list[str]:
    """Write pieces, close, and return what was reported."""
    said: list[str] = []
    files = RunFiles(lambda: folder, FakeClock(), said.append, **options)
    for piece in pieces:
        files.write(*piece)
    files.close()
    return said


def test_lines_come_back_with_instance_and_stream(tmp_path: Path) -> None:
    pieces = [
        ("pay", "pay-1", "stdout", b"one\ntw"),
        ("pay", "pay-2", "stderr", b"oops\n"),
        ("pay", "pay-1", "stdout", b"o\n\nno newline"),
    ]
    assert written(tmp_path, pieces) == []
    lines = read_run(tmp_path)
    assert [(line.instance, line.text) for line in lines] == [
        ("pay-1", "one"),
        ("pay-2", "oops"),
        ("pay-1", "two"),
        ("pay-1", ""),
        ("pay-1", "no newline"),
    ]
    assert {line.service for line in lines} == {"pay"}


def test_lines_logged_in_process_keep_their_level(tmp_path: Path) -> None:
    files = RunFiles(lambda: tmp_path, FakeClock(), print)
    files.line(LogLine(1, 0.0, "users", "warning", "slow\nand low"))
    files.close()
    assert [(line.level, line.text, line.instance) for line in read_run(tmp_path)] == [
        ("warning", "slow", ""),
        ("warning", "and low", ""),
    ]


def test_only_the_services_asked_for_are_read(tmp_path: Path) -> None:
    written(tmp_path, [("a", "a-1", "stdout", b"1\n"), ("ab", "ab-1", "stdout", b"2\n")])
    assert [line.text for line in read_run(tmp_path, ["a"])] == ["1"]


def test_a_full_file_is_rotated_and_both_are_read(tmp_path: Path) -> None:
    pieces = [("a", "a-1", "stdout", b"%03d\n" % n) for n in range(20)]
    written(tmp_path, pieces, max_bytes=500)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "a.log.1"]
    assert all(path.stat().st_size <= 500 for path in tmp_path.iterdir())
    assert sorted(line.text for line in read_run(tmp_path))[-1] == "019"


def test_lines_stay_in_order_where_the_clock_is_set_back(tmp_path: Path) -> None:
    clock = FakeClock()
    files = RunFiles(lambda: tmp_path, clock, print, max_bytes=200)
    for number in range(10):
        files.write("a", "a-1", "stdout", f"line {number} {'x' * 20}\n".encode())
        clock.set(-100.0 * (number + 1))
    files.close()
    kept = [int(line.text.split()[1]) for line in read_run(tmp_path)]
    assert kept == list(range(kept[0], 10))
    assert len(kept) > 3


def test_a_line_without_end_is_written_in_pieces(tmp_path: Path) -> None:
    written(tmp_path, [("a", "a-1", "stdout", b"x" * 70_000)])
    assert [len(line.text) for line in read_run(tmp_path)] == [70_000]


def test_a_disk_that_takes_nothing_is_reported_once_and_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failing = os.open, True
    done = threading.Event()

    def refuse(path: str, *rest: int) -> int:
        if failing:
            raise OSError(28, "No space left on device")
        return real(path, *rest)

    monkeypatch.setattr("msctl.telemetry.logs.run_files.os.open", refuse)
    said: list[str] = []

    def report(text: str) -> None:
        said.append(text)
        done.set()

    files = RunFiles(lambda: tmp_path, FakeClock(), report)
    files.write("a", "a-1", "stdout", b"lost\n")
    assert done.wait(10)
    failing = False
    files.write("a", "a-1", "stdout", b"kept\n")
    files.close()
    assert len(said) == 1
    assert "No space left on device" in said[0]
    assert [line.text for line in read_run(tmp_path)] == ["kept"]


def test_what_the_thread_cannot_keep_up_with_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go = threading.Event(), threading.Event()
    real = run_files._write_all

    def stuck(descriptor: int, data: bytes) -> None:
        entered.set()
        go.wait()
        real(descriptor, data)

    monkeypatch.setattr(run_files, "_write_all", stuck)
    files = RunFiles(lambda: tmp_path, FakeClock(), print, queue_bytes=100)
    files.write("a", "a-1", "stdout", b"first\n")
    assert entered.wait(10)
    for _ in range(50):
        files.write("a", "a-1", "stdout", b"x" * 9 + b"\n")
    go.set()
    files.close()
    assert len(read_run(tmp_path)) == 11


@pytest.mark.parametrize(
    "service", ["../../elsewhere", "/tmp/x", ".", "..", "a.log", "ünï", "a b", "\U0001f4a9" * 256, "x" * 300]
)
def test_a_service_cannot_name_a_file_elsewhere(tmp_path: Path, service: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    files = RunFiles(lambda: folder, FakeClock(), pytest.fail)
    files.line(LogLine(1, 0.0, service, "info", "hello"))
    files.close()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    (line,) = read_run(folder)
    assert line.text == "hello"
    if len(service) < 100:
        assert services_of(folder) == [line.service] == [service]
        assert (line.instance, line.level) == ("", "info")


def test_a_link_in_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "a.log").symlink_to(other)
    assert len(written(folder, [("a", "a-1", "stdout", b"x\n")])) == 1
    assert not other.exists()


def test_a_folder_that_cannot_be_made_is_asked_for_again(tmp_path: Path) -> None:
    said: list[str] = []
    done = threading.Event()
    folders = iter([None, tmp_path])

    def make() -> Path:
        folder = next(folders)
        if folder is None:
            raise PermissionError(13, "Permission denied")
        return folder

    def report(text: str) -> None:
        said.append(text)
        done.set()

    files = RunFiles(make, FakeClock(), report)
    files.write("a", "a-1", "stdout", b"lost\n")
    assert done.wait(10)
    files.write("a", "a-1", "stdout", b"kept\n")
    files.close()
    assert "Permission denied" in said[0]
    assert [line.text for line in read_run(tmp_path)] == ["kept"]
