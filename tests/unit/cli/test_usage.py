"""A command line that cannot be meant is exit code 2; a broker that is not there is 6."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import InProcess
from tests.support.ports import reserved_port


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("send",), "missing argument TEXT"),
        (("send", "x", "--file", "y"), "cannot be combined"),
        (("send", "-", "--lines", "-n", "2"), "cannot be combined"),
        (("send", "--file", "/no/such/file"), "cannot read /no/such/file: no such file"),
        (("send", "--file", "/"), "cannot read /: is a directory"),
        (("send", "x", "--header", "novalue"), "not of the form NAME=VALUE"),
        (("send", "x", "--property", "prioritty=1"), "did you mean priority?"),
        (("send", "x", "--property", "priority=256"), "not an integer from 0 to 255"),
        (("send", "x", "--property", "timestamp=soon"), "not a time"),
        (("send", "x", "--rate", "fast"), "not a number of messages per second"),
        (("send", "x", "--timeout", "never"), "not a duration"),
        (("send", "x", "--timeout", "0"), "greater than 0"),
        (("send", "x", "--queue", ""), "must not be empty"),
        (("send", "x", "--queue", "q" * 256), "longer than 255 bytes"),
        (("send", "x", "--url", "http://localhost"), "http://, expected amqp://"),
        (("consume", "--ack", "maybe"), "not one of"),
        (("consume", "--idle-timeout", "x"), "not a duration"),
        (("consume", "--prefetch", "0"), "prefetch"),
        (("consume", "-o", "yaml"), "yaml"),
    ],
)
def test_invalid_command_line_is_a_usage_error(tmp_path: Path, args: tuple[str, ...], words: str) -> None:
    done = InProcess(tmp_path, tmp_path / "run", {}).run(*args)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", [("send", "x"), ("consume",)])
def test_no_broker_is_exit_code_6_with_a_hint_and_without_the_password(
    tmp_path: Path, verb: tuple[str, ...]
) -> None:
    with reserved_port() as port:
        done = InProcess(
            tmp_path, tmp_path / "run", {"AMQP_URL": f"amqp://me:hunter2@127.0.0.1:{port}/"}
        ).run(*verb)
    assert done.returncode == 6
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: no broker listens at 127.0.0.1:{port}: connection refused\nhint: ")
    assert "hunter2" not in done.stderr
