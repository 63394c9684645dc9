"""Names of variables, and where a command's words name them; what they hold is tested with real children."""

from __future__ import annotations

import pytest

from msctl.processes.environment import fill_in, variable


@pytest.mark.parametrize(
    ("service", "name"),
    [("users", "USERS_URL"), ("order-items", "ORDER_ITEMS_URL"), ("a.b", "A_B_URL"), ("ü", "__URL")],
)
def test_the_url_variable_of_a_service(service: str, name: str) -> None:
    assert variable(service) == name


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["serve", "$PORT"], ["serve", "8081"]),
        (["serve", "--at=$HOST:${PORT}/x"], ["serve", "--at=127.0.0.1:8081/x"]),
        (["$NAME", "$PORTS", "${NAME}", "$"], ["$NAME", "$PORTS", "${NAME}", "$"]),
        (["serve", "$$PORT", "$$$PORT", "$${PORT}"], ["serve", "$PORT", "$8081", "${PORT}"]),
        (["serve", "${PORT", "$1", "${}"], ["serve", "${PORT", "$1", "${}"]),
        (["serve", "$EVIL"], ["serve", "a b; $PORT"]),
        (["sh", "-c", "echo $PORT $$", "$PORT"], ["sh", "-c", "echo $PORT $$", "8081"]),
        (["/bin/bash", "-euc", "PORT=1; echo $PORT"], ["/bin/bash", "-euc", "PORT=1; echo $PORT"]),
        (["sh", "run.sh", "$PORT"], ["sh", "run.sh", "8081"]),
        (["python", "-c", "print($PORT)"], ["python", "-c", "print(8081)"]),
        ([], []),
    ],
)
def test_variables_in_a_command_are_expanded_from_its_environment(
    words: list[str], expected: list[str]
) -> None:
    env = {"PORT": "8081", "HOST": "127.0.0.1", "EVIL": "a b; $PORT"}
    assert fill_in(words, env) == expected
