"""A command line that cannot be meant is exit code 2; a broker that is not there is 6."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import InProcess
from tests.support.ports import reserved_port


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("send",), "nothing to send"),
        (("send", "x", "--file", "y"), "cannot both be sent"),
        (("send", "-", "--lines", "-n", "2"), "cannot go with --lines"),
        (("send", "--file", "/no/such/file"), "/no/such/file cannot be read: No such file"),
        (("send", "--file", "/"), "/ cannot be read: Is a directory"),
        (("send", "x", "--header", "novalue"), "not written as NAME=VALUE"),
        (("send", "x", "--property", "prioritty=1"), "did you mean priority?"),
        (("send", "x", "--property", "priority=256"), "not a number of 0 to 255"),
        (("send", "x", "--property", "timestamp=soon"), "not a time"),
        (("send", "x", "--rate", "fast"), "not a number of messages per second"),
        (("send", "x", "--timeout", "never"), "not a duration"),
        (("send", "x", "--timeout", "0"), "no time at all"),
        (("send", "x", "--queue", ""), "a queue needs a name"),
        (("send", "x", "--queue", "q" * 256), "longer than the 255 bytes"),
        (("send", "x", "--url", "http://localhost"), "http://, expected amqp://"),
        (("consume", "--ack", "maybe"), "none of auto, manual, reject, requeue"),
        (("consume", "--idle-timeout", "x"), "not a duration"),
        (("consume", "--prefetch", "0"), "prefetch"),
        (("consume", "-o", "yaml"), "yaml"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(tmp_path: Path, args: tuple[str, ...], words: str) -> None:
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
