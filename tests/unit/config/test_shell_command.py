"""Commands for a shell, and those that look as if they needed one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from msctl.config.reading.load import load
from msctl.config.reading.shell_command import unquoted_operator
from msctl.errors import ConfigError
from msctl.model.service_spec import ServiceSpec


@pytest.fixture
def service(tmp_path: Path) -> Callable[[str], ServiceSpec]:
    """The service `one` of a file with these keys."""

    def service(keys: str) -> ServiceSpec:
        (tmp_path / "msctl.toml").write_text(f"[services.one]\n{keys}\n")
        found = load(cwd=tmp_path, env={}).project.service("one")
        assert found is not None
        return found

    return service


@pytest.mark.parametrize(
    ("text", "operator"),
    [
        ("a && b", "&&"),
        ("a | b", "|"),
        ("a || b", "||"),
        ("a >out", ">"),
        ("a 2>&1", ">"),
        ("a; b", ";"),
        ("sh -c 'a && b'", None),
        ('sh -c "a | b"', None),
        (r"find . -exec x \;", None),
        (r'"a \" | b"', None),
        ("'a' | b", "|"),
        ("a --url http://x?a=1", None),
        ("", None),
    ],
)
def test_an_operator_counts_outside_quotes_only(text: str, operator: str | None) -> None:
    assert unquoted_operator(text) == operator


@pytest.mark.parametrize(
    ("keys", "command", "operator"),
    [
        ("command = 'a && b $X'\nshell = true", ("/bin/sh", "-c", "a && b $X"), None),
        ('command = ["/bin/sh", "-c", "a && b"]\nshell = true', ("/bin/sh", "-c", "a && b"), None),
        ("command = 'a && b'", ("a", "&&", "b"), "&&"),
        ('command = ["a", "|"]', ("a", "|"), None),
    ],
)
def test_a_command_is_for_the_shell_if_it_asks_for_one(
    service: Callable[[str], ServiceSpec], keys: str, command: tuple[str, ...], operator: str | None
) -> None:
    spec = service(keys)
    assert (spec.command, spec.shell_operator) == (command, operator)


def test_a_list_of_words_is_not_for_a_shell(service: Callable[[str], ServiceSpec]) -> None:
    with pytest.raises(ConfigError, match="one string"):
        service('command = ["a", "b"]\nshell = true')
