"""Names of variables, and where a command's words name them; what they hold is tested with real children."""

from __future__ import annotations

from pathlib import Path

import pytest

from msctl.model.address import Address
from msctl.model.broker_spec import BrokerSpec
from msctl.model.project import Project
from msctl.model.service_policies import Dependency
from msctl.model.service_spec import ServiceSpec
from msctl.model.variables import url_variable
from msctl.processes.environment import assigned_variables, environment, fill_in


@pytest.mark.parametrize(
    ("service", "name"),
    [("users", "USERS_URL"), ("order-items", "ORDER_ITEMS_URL"), ("a.b", "A_B_URL"), ("ü", "__URL")],
)
def test_the_url_variable_of_a_service(service: str, name: str) -> None:
    assert url_variable(service) == name


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


def project(*services: ServiceSpec, **dotenv: str) -> Project:
    return Project("shop", None, "msctl.toml", services, None, BrokerSpec(), dotenv=dotenv)


def test_a_service_is_told_who_it_is_and_where_its_dependencies_are() -> None:
    web = ServiceSpec("web", command=("web",), depends_on=(Dependency("api"), Dependency("cache")))
    others = (ServiceSpec("api", command=("api",)), ServiceSpec("cache", command=("x",), scheme="redis"))
    found = assigned_variables(
        web,
        project(web, *others),
        "web-2",
        address=Address("127.0.0.1", 8081),
        amqp_url="amqp://broker/",
        locate={"api": Address("127.0.0.1", 1), "cache": Address("::1", 2)}.get,
    )
    assert found == {
        "MSCTL_SERVICE": "web",
        "MSCTL_INSTANCE": "web-2",
        "AMQP_URL": "amqp://broker/",
        "HOST": "127.0.0.1",
        "PORT": "8081",
        "API_URL": "http://127.0.0.1:1",
        "API_HOST": "127.0.0.1",
        "API_PORT": "1",
        "CACHE_URL": "redis://[::1]:2",
        "CACHE_HOST": "::1",
        "CACHE_PORT": "2",
    }


def test_precedence_is_env_assigned_shell_env_file_dotenv() -> None:
    names = ("env", "assigned", "shell", "env_file", "dotenv")
    layers = {place: dict.fromkeys(names[number:], place) for number, place in enumerate(names)}
    spec = ServiceSpec("a", command=("a",), env=layers["env"], file_variables=layers["env_file"])
    found = environment(
        spec, project(spec, **layers["dotenv"]), shell=layers["shell"], assigned=layers["assigned"]
    )
    assert found == dict.fromkeys(names, "env")
    for number, place in enumerate(names):
        spec = ServiceSpec("a", command=("a",), env={}, file_variables=layers["env_file"])
        if number:
            shown = environment(
                spec, project(spec, **layers["dotenv"]), shell=layers["shell"], assigned=layers["assigned"]
            )
            assert shown[place] == (place if number == 1 else "assigned")


def test_a_value_of_env_names_other_variables() -> None:
    spec = ServiceSpec(
        "a",
        command=("a",),
        env={"X": "$API_URL/v1", "Y": "${X}?${NONE:-none}&$$1&$NONE", "PATH": "/opt:$PATH"},
    )
    found = environment(spec, project(spec), shell={"PATH": "/bin"}, assigned={"API_URL": "http://api"})
    assert found["X"] == "http://api/v1"
    assert found["Y"] == "http://api/v1?none&$1&$NONE"
    assert found["PATH"] == "/opt:/bin"


def test_pwd_follows_the_working_directory(tmp_path: Path) -> None:
    spec = ServiceSpec("a", command=("a",))
    found = environment(spec, project(spec), shell={"PWD": "/elsewhere"}, assigned={}, directory=tmp_path)
    assert found["PWD"] == str(tmp_path)
