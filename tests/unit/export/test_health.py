"""Health tables, stop signals, variables from files and limits of restarts, as each engine has them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from msctl.export import Exported, export
from msctl.export.containers.health_command import health_command
from msctl.export.health import HealthCheck
from msctl.model.project import Project
from msctl.model.service_policies import Dependency, HealthSpec, RestartPolicy
from msctl.model.service_spec import ServiceSpec
from tests.support import yaml_files
from tests.unit.export import projects

TABLE = HealthSpec(
    http="/up", headers={"X-Key": "a"}, https=True, interval=2.5, timeout=3, retries=7, start_period=9
)


def project(**keys: Any) -> Project:
    spec = ServiceSpec("api", command=("python", "api.py"), port=9000, **keys)
    return replace(
        projects.course(),
        root=Path("/srv/shop"),
        services=(ServiceSpec("db", command=("db",)), spec),
        gateway=None,
    )


def compose(**keys: Any) -> dict[str, Any]:
    document: dict[str, Any] = yaml_files.read(_file(export("compose", project(**keys)), "compose.yaml"))
    found: dict[str, Any] = document["services"]["api"]
    return found


def container(**keys: Any) -> dict[str, Any]:
    for file in export("kubernetes", project(**keys)).files:
        for document in yaml_files.read_all(file.text) if file.path.endswith(".yaml") else ():
            if document["kind"] == "Deployment" and document["metadata"]["name"] == "api":
                found: dict[str, Any] = document["spec"]["template"]["spec"]["containers"][0]
                return found
    raise AssertionError


def unit(**keys: Any) -> list[str]:
    exported = export("systemd", project(**keys))
    return next(file.text for file in exported.files if file.path.endswith("-api.service")).splitlines()


def notices(kind: str, **keys: Any) -> set[str]:
    return {notice.key.removeprefix("services.api.") for notice in export(kind, project(**keys)).notices}


def _file(exported: Exported, path: str) -> str:
    return next(file.text for file in exported.files if file.path == path)


def test_compose_has_the_timing_and_the_request_of_a_table() -> None:
    check = compose(health=TABLE)["healthcheck"]
    assert (check["interval"], check["timeout"], check["retries"], check["start_period"]) == (
        "3s",
        "4s",
        7,
        "9s",
    )
    script = check["test"][-1]
    for part in ("HTTPSConnection", '"/up"', '"X-Key": "a"', "9000"):
        assert part in script
    compile(script, "check", "exec")


def test_kubernetes_has_the_timing_and_the_request_of_a_table() -> None:
    found = container(health=TABLE)
    probe = found["readinessProbe"]
    assert probe["httpGet"] == {
        "path": "/up",
        "port": "http",
        "scheme": "HTTPS",
        "httpHeaders": [{"name": "X-Key", "value": "a"}],
    }
    assert (probe["periodSeconds"], probe["timeoutSeconds"], probe["failureThreshold"]) == (3, 3, 7)
    assert found["startupProbe"]["failureThreshold"] == 9


def test_a_command_and_another_port_are_probes_too() -> None:
    command = HealthSpec(exec=("pg_isready", "-p", "$PORT"))
    assert compose(health=command)["healthcheck"]["test"] == ["CMD", "pg_isready", "-p", "9000"]
    assert container(health=command)["readinessProbe"]["exec"] == {"command": ["pg_isready", "-p", "9000"]}
    assert container(health=HealthSpec(tcp=9001))["readinessProbe"]["tcpSocket"] == {"port": 9001}
    assert "9001" in compose(health=HealthSpec(tcp=9001))["healthcheck"]["test"][-1]
    assert "health.exec" in notices("compose", health=HealthSpec(exec=("check", "$DB_URL")))
    assert "health.log" in notices("kubernetes", health=HealthSpec(log="ready"))


def test_a_check_accepts_what_the_probes_of_a_stack_accept() -> None:
    command = health_command(HealthCheck(1, "/"))
    assert command is not None
    assert "< 400" in command[-1]


def test_stop_signals_and_limits_are_those_of_the_service() -> None:
    limited = {"restart": RestartPolicy.ON_FAILURE, "max_restarts": 3, "stop_signal": "SIGINT"}
    found = compose(**limited)
    assert (found["restart"], found["stop_signal"]) == ("on-failure:3", "SIGINT")
    assert compose(max_restarts=0)["restart"] == "no"
    assert {"KillSignal=SIGINT", "StartLimitBurst=4"} <= set(unit(**limited))
    assert {"stop_signal", "max_restarts"} <= notices("kubernetes", **limited)
    assert {"stop_signal", "max_restarts"} <= notices("procfile", **limited)
    assert "max_restarts" in notices("compose", restart=RestartPolicy.ALWAYS, max_restarts=3)


def test_a_dependent_that_restarts_with_its_dependency_does_so_in_compose() -> None:
    follows = {"depends_on": (Dependency("db", restart=True),)}
    assert compose(**follows)["depends_on"]["db"]["restart"] is True
    assert "depends_on.restart" in notices("systemd", **follows)


def test_variables_from_files_reach_the_service_by_the_engine() -> None:
    files = {"env_file": (Path("/srv/shop/api.env"), Path("/etc/more.env"))}
    assert compose(**files)["env_file"] == ["./api.env", "/etc/more.env"]
    assert container(**files)["envFrom"] == [{"secretRef": {"name": "api-env"}}]
    kustomization = _file(export("kubernetes", project(**files)), "kustomization.yaml")
    assert "secret generic api-env --from-env-file=api.env --from-env-file=/etc/more.env" in kustomization
    assert "EnvironmentFile=/srv/shop/api.env" in unit(**files)
    assert "env_file" in notices("procfile", **files)
    # The image has no such file, so its msctl.toml must not ask for it.
    assert "env_file" not in _file(export("compose", project(**files)), "compose/msctl.toml")
