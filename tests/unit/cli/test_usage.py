"""Usage errors: one style for ours and the parser's, exit code 2; help that fits 80 columns."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from msctl.cli.app import app
from msctl.cli.verb_group import VERBS
from tests.support.cli import InProcess
from tests.support.ports import reserved_port


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("send",), "missing argument TEXT"),
        (("send", "x", "--queue", "<x>"), "--queue: '<x>' has a character"),
        (("send", "x", "--exchange", "<x>"), "--exchange: '<x>' has a character"),
        (("consume", "--queue", '"x"'), "has a character"),
        (("send", "x", "--queue", "\udcff"), "is not UTF-8"),
        (("send", "x", "--file", "y"), "cannot be combined"),
        (("send", "-", "--lines", "-n", "2"), "cannot be combined"),
        (("send", "--file", "/no/such/file"), "cannot read /no/such/file: no such file"),
        (("send", "--file", "/"), "cannot read /: is a directory"),
        (("send", "x", "--header", "novalue"), "not of the form NAME=VALUE"),
        (("send", "x", "--property", "prioritty=1"), "did you mean priority?"),
        (("send", "x", "--property", "priority=256"), "not an integer from 0 to 255"),
        (("send", "x", "--property", "timestamp=soon"), "not a time"),
        (("send", "x", "--rate", "fast"), "not a number of messages per second"),
        (("send", "x", "--rate", "5"), "no effect"),
        (("send", "x", "--key", "k", "--durable"), "no effect"),
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


@pytest.mark.parametrize(
    ("args", "error", "hint"),
    [
        (("up", "--wat"), "unknown option --wat", "did you mean --wait? see: msctl up --help"),
        (("--wat",), "unknown option --wat", "see: msctl --help"),
        (("wait",), "missing argument SERVICE", "see: msctl wait --help"),
        (("route", "GET"), "missing argument PATH", "see: msctl route --help"),
        (("route",), "missing argument", "see: msctl route --help"),
        (("route", "GET", "/a", "/b"), "unexpected argument /b", "see: msctl route --help"),
        (("queues", "purge"), "missing argument NAME", "see: msctl queues purge --help"),
        (("send", "a", "b"), "unexpected argument b", "see: msctl send --help"),
        (("send", "-n", "x", "a"), "--count: 'x' is not an integer", "see: msctl send --help"),
        (("send", "-n", "0", "a"), "--count: must be 1 or more, not 0", "see: msctl send --help"),
        (
            ("serve", "x", "--port", "70000"),
            "--port: must be from 0 to 65535, not 70000",
            "see: msctl serve --help",
        ),
        (("logs", "--tail"), "--tail needs a value", "see: msctl --help"),
        (("up", "--log-format", "x"), "--log-format: 'x' is not one of", "see: msctl up --help"),
        (("statsu",), "unknown verb 'statsu'", "did you mean 'status'? list the verbs with: msctl --help"),
    ],
)
def test_errors_of_the_parser_have_the_style_of_all_errors(
    tmp_path: Path, args: tuple[str, ...], error: str, hint: str
) -> None:
    done = InProcess(tmp_path, tmp_path / "run", {}).run(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first.startswith(f"error: {error}")
    assert second.startswith("hint: ")
    assert hint.removeprefix("did you mean ") in second


@pytest.mark.parametrize(
    "args",
    [
        ("status", "\udcff"),
        ("stop", "\udcff"),
        ("logs", "\udcff"),
        ("--project", "\udcff", "status"),
        ("--file", "/no/\udcff", "config"),
        ("serve", "\udcff"),
        ("export", "\udcff"),
        ("init", "--example", "\udcff"),
        ("route", "GET", "/\udcff"),
        ("queues", "purge", "\udcff"),
        ("scale", "\udcff=2"),
        ("\udcff",),
        ("up", "--\udcff"),
    ],
)
def test_arguments_that_are_not_utf_8_are_errors(tmp_path: Path, args: tuple[str, ...]) -> None:
    done = InProcess(tmp_path, tmp_path / "run", {}).run(*args)
    assert done.returncode in (2, 3, 4)
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["", *VERBS, "queues purge"])
def test_help_fits_80_columns_and_cuts_nothing(tmp_path: Path, verb: str) -> None:
    help_text = InProcess(tmp_path, tmp_path / "run", {"COLUMNS": "80"}).ok(*verb.split(), "--help")
    assert max(map(len, help_text.splitlines())) <= 80
    assert "…" not in help_text
    if not verb:
        assert "..." not in help_text.partition("Run a project:")[2]


def test_every_option_that_has_a_variable_names_it_in_the_help(tmp_path: Path) -> None:
    msctl = InProcess(tmp_path, tmp_path / "run", {"COLUMNS": "80"})
    root: Any = typer.main.get_command(app)
    for verb in VERBS:
        shown = re.sub(r"\s+", " ", msctl.ok(verb, "--help"))
        for option in root.get_command(None, verb).params:
            variables = getattr(option, "envvar", None) or []
            for variable in [variables] if isinstance(variables, str) else variables:
                assert variable in shown, (verb, variable)


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
