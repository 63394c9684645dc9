"""Log lines for people: colours of programs are for terminals alone."""

from __future__ import annotations

from msctl.cli.output.log_lines import LogFormatter
from msctl.model.events import LogLine


def shown(text: str, *, coloured: bool) -> str:
    formatter = LogFormatter(["a"], coloured=coloured)
    return formatter.format(LogLine(1, 0.0, "a", "info", text))


def test_a_pipe_gets_the_text_of_a_coloured_line() -> None:
    assert shown("\x1b[31;1mred\x1b[0m", coloured=False) == "a      | red"
    assert "\x1b[31;1mred\x1b[0m" in shown("\x1b[31;1mred\x1b[0m", coloured=True)


def test_other_controls_are_escaped_everywhere() -> None:
    for coloured in (False, True):
        assert shown("a\x1b[2Jb\u202ec", coloured=coloured).endswith("a\\x1b[2Jb\\u202ec")
