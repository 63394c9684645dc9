"""The compose file: valid by its schema, with the settings of each service."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from msctl.export import ExportOptions, export
from msctl.model.project import Project
from msctl.model.service_spec import ServiceSpec
from msctl.model.snapshots import BrokerMode
from tests.support import yaml_files
from tests.unit.export import golden, projects

SCHEMA = json.loads(
    (files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json").read_text(
        encoding="utf-8"
    )
)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def document(project: Project, options: ExportOptions | None = None) -> dict[str, Any]:
    (text,) = [file.text for file in export("compose", project, options).files if file.path == "compose.yaml"]
    found: dict[str, Any] = yaml_files.read(text)
    return found


@pytest.mark.parametrize("variant", ["compose", "compose-monitoring"])
@pytest.mark.parametrize("project", golden.PROJECTS)
def test_it_is_valid_by_the_specifications_schema(project: str, variant: str) -> None:
    found = document(golden.PROJECTS[project](), golden.VARIANTS[variant][1])
    VALIDATOR.validate(found)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(found | {"servces": {}})


def test_every_service_is_a_container_that_serves_it() -> None:
    services = document(projects.course())["services"]
    assert list(services) == ["hello", "users", "producer", "consumer", "gateway", "rabbitmq"]
    assert services["users"]["command"][:6] == ["serve", "users", "--host", "0.0.0.0", "--port", "8081"]
    assert services["gateway"]["environment"] == {
        "MSCTL_HELLO_URL": "http://hello:8080",
        "MSCTL_USERS_URL": "http://users:8081",
        "MSCTL_PRODUCER_URL": "http://producer:8080",
    }


def test_rabbitmq_is_the_courses_own() -> None:
    rabbitmq = document(projects.course())["services"]["rabbitmq"]
    assert rabbitmq["image"] == "rabbitmq:3-management"
    assert rabbitmq["ports"] == ["127.0.0.1:5672:5672", "127.0.0.1:15672:15672"]


def test_declared_ports_are_published_except_a_shared_one() -> None:
    services = document(projects.course())["services"]
    assert services["gateway"]["ports"] == ["127.0.0.1:8080:8080"]
    assert services["users"]["ports"] == ["127.0.0.1:8081:8081"]
    assert "ports" not in services["hello"]


def test_service_without_autostart_has_a_profile() -> None:
    assert document(projects.course())["services"]["consumer"]["profiles"] == ["consumer"]


def test_dependency_conditions_are_kept() -> None:
    services = document(projects.shop())["services"]
    assert services["orders"]["depends_on"] == {
        "user-service": {"condition": "service_healthy"},
        "migrate": {"condition": "service_completed_successfully"},
    }
    assert services["payments"]["depends_on"] == {"orders": {"condition": "service_started"}}


def test_dollar_signs_are_escaped_for_compose() -> None:
    spec = ServiceSpec("app", command=("node", "app.js", "$1", "a $$ b"), env={"A": "$x ${y} $$"})
    app = document(replace(projects.course(), services=(spec,), gateway=None))["services"]["app"]
    assert app["environment"]["A"] == "$$x ${y?it is needed} $$"
    assert app["entrypoint"] == ["node", "app.js", "$$1", "a $$ b"]


def test_a_read_only_service_takes_its_configuration_from_a_file() -> None:
    """docker/compose 12531: inline content is refused for it."""
    exported = export("compose", projects.shop())
    found = yaml_files.read(exported.files[0].text)
    files = {file.path for file in exported.files}
    assert all(set(config) == {"file"} for config in found["configs"].values())
    assert found["configs"]["msctl"]["file"].removeprefix("./") in files


def test_one_service_builds_the_image_that_several_use() -> None:
    services = document(projects.shop())["services"]
    builds: dict[str, int] = {}
    for service in services.values():
        if "build" in service:
            builds[service["image"]] = builds.get(service["image"], 0) + 1
        elif service["image"] != "rabbitmq:3-management":
            assert service["pull_policy"] == "never"
    assert builds == {"my-shop:latest": 1, "my-shop-payments:latest": 1}


def test_what_a_manual_service_shares_is_built_by_one_that_is_started() -> None:
    services = document(
        replace(
            projects.course(),
            gateway=None,
            services=(
                ServiceSpec("first", app="a:b", autostart=False, port=1),
                ServiceSpec("second", app="a:b", port=2),
            ),
        )
    )["services"]
    assert "build" not in services["first"]
    assert "build" in services["second"]


def test_secrets_come_from_the_environment() -> None:
    services = document(projects.shop())["services"]
    assert services["user-service"]["environment"]["SESSION_SECRET"] == (
        "${SESSION_SECRET:?a secret of user_service}"
    )
    password = "${BROKER_PASSWORD:?the password of the broker}"
    assert (
        services["orders"]["environment"]
        | {
            "AMQP_URL": "amqp://rabbitmq:5672/shop",
            "MSCTL_BROKER_USERNAME": "shop",
            "MSCTL_BROKER_PASSWORD": password,
        }
        == services["orders"]["environment"]
    )
    assert services["rabbitmq"]["environment"]["RABBITMQ_DEFAULT_PASS"] == password


def test_remote_broker_is_kept() -> None:
    project = projects.course()
    there = replace(project.broker, mode=BrokerMode.EXTERNAL, url="amqp://guest:guest@mq.example/")
    services = document(replace(project, broker=there))["services"]
    assert "rabbitmq" not in services
    assert services["users"]["environment"]["AMQP_URL"] == "amqp://guest:guest@mq.example:5672/"
    secret = replace(there, url="amqp://me:hush@mq.example/")
    services = document(replace(project, broker=secret))["services"]
    assert services["users"]["environment"]["AMQP_URL"] == "amqp://mq.example:5672/"
    assert services["users"]["environment"]["MSCTL_BROKER_USERNAME"] == "me"


def test_the_dockerfile_is_found_from_the_projects_folder() -> None:
    services = document(projects.shop(), ExportOptions(context="..", folder="deploy"))["services"]
    build = services["user-service"]["build"]
    assert build == {"context": "..", "dockerfile": "deploy/Dockerfile"}


def test_monitoring_adds_prometheus_and_grafana_with_their_files() -> None:
    exported = export("compose", projects.shop(), ExportOptions(monitoring=True))
    paths = {file.path for file in exported.files}
    assert "monitoring/prometheus/prometheus.yml" in paths
    assert "monitoring/grafana/dashboards/my-shop.json" in paths
    (text,) = [file.text for file in exported.files if file.path.endswith("prometheus.yml")]
    jobs = {job["job_name"]: job for job in yaml_files.read(text)["scrape_configs"]}
    assert jobs["user_service"]["static_configs"] == [{"targets": ["user-service:9464"]}]
    assert jobs["orders"]["dns_sd_configs"] == [{"names": ["orders"], "type": "A", "port": 9464}]
    assert jobs["rabbitmq"]["metrics_path"] == "/metrics/per-object"
    assert not {"migrate", "payments", "mailer"} & jobs.keys()  # they have no metrics
    assert "--metrics-port" in yaml_files.read(exported.files[0].text)["services"]["gateway"]["command"]


def test_a_command_with_a_health_path_and_no_port_keeps_its_health_check() -> None:
    worker = ServiceSpec("worker", command=("python", "worker.py"), health="/healthz")
    found = document(replace(projects.course(), services=(worker,), gateway=None))["services"]["worker"]
    assert "/healthz" in " ".join(found["healthcheck"]["test"])
    assert found["command"][-2:] == ["--port", "8080"]
