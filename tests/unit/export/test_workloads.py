"""Services as separate processes: addresses, variables, secrets, configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from msctl.config.reading.load import load
from msctl.config.secret_variables import is_secret
from msctl.export.broker import broker_plan
from msctl.export.ci.pipeline import check
from msctl.export.portable import portable_toml
from msctl.export.processes.machine import machine_addresses
from msctl.export.proxies.upstreams import routes_of, upstream
from msctl.export.workloads import HostPort, container_addresses, workloads
from msctl.model.broker_spec import BrokerSpec
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.project import Project
from msctl.model.route_policies import BasicAuthSpec, CanarySpec, StaticSpec, UpstreamTlsSpec
from msctl.model.route_spec import RouteSpec
from msctl.model.service_policies import Dependency
from msctl.model.service_spec import ServiceSpec
from msctl.model.snapshots import BrokerMode
from msctl.model.tls_spec import TlsSpec
from tests.unit.export import projects


def read_again(text: str, folder: Path) -> Project:
    (folder / "payments").mkdir()
    (folder / "msctl.toml").write_text(text)
    return load(file=folder / "msctl.toml", cwd=folder, env={}).project


def test_portable_configuration_declares_the_same_project(tmp_path: Path) -> None:
    project = projects.course()
    text, notices = portable_toml(project)
    again = read_again(text, tmp_path)
    assert notices == ()
    assert again.services == project.services
    assert again.gateway == project.gateway


def test_portable_configuration_has_no_secrets_and_no_absolute_folders(tmp_path: Path) -> None:
    project = projects.shop()
    services = tuple(replace(spec, routes=()) for spec in project.services)
    text, notices = portable_toml(replace(project, services=services))
    assert notices == ()
    assert "hush" not in text
    assert "do-not-tell" not in text
    assert "/srv/shop" not in text
    payments = read_again(text, tmp_path).service("payments")
    assert payments is not None
    assert payments.cwd == tmp_path / "payments"


def test_the_paths_of_files_are_relative_to_the_project(tmp_path: Path) -> None:
    project = projects.shop()
    root = project.root or Path()
    route = RouteSpec(
        "/", "web", static=StaticSpec(str(root / "dist")), basic_auth=BasicAuthSpec(file=str(root / "users"))
    )
    services = (
        ServiceSpec("web", static=StaticSpec(str(root / "dist"), fallback="a.html"), routes=(route,)),
        ServiceSpec("far", url="https://a.test", tls=UpstreamTlsSpec(ca=Path("/etc/ca.pem"))),
    )
    text, notices = portable_toml(replace(project, services=services))
    assert str(root) not in text
    assert [notice.key for notice in notices] == ["services.far.tls.ca"]


def over_tls(project: Project) -> Project:
    gateway = project.gateway or GatewaySpec()
    tls = TlsSpec(Path("/srv/shop/cert.pem"), Path("/srv/shop/key.pem"))
    return replace(project, gateway=replace(gateway, tls=tls))


def test_certificates_are_left_out_with_a_notice() -> None:
    text, notices = portable_toml(over_tls(projects.course()))
    assert [notice.key for notice in notices] == ["gateway.tls"]
    assert "tls" not in text


def test_gateway_is_reached_with_its_own_scheme() -> None:
    project = over_tls(projects.course())
    addresses, _ = machine_addresses(project)
    assert addresses["gateway"].url == "https://127.0.0.1:8080"
    assert addresses["users"].url == "http://127.0.0.1:8081"
    assert (
        container_addresses(project, {s.name: s.name for s in project.services})["gateway"].scheme == "http"
    )
    upstreams = {
        found.service: found.scheme for found in (upstream(project, r)[0] for r in routes_of(project))
    }
    assert upstreams == {"gateway": "https", "users": "http"}
    assert check(project)[-1] == (
        "curl --fail --silent --show-error --insecure https://127.0.0.1:8080/-/ready"
    )


def test_folder_outside_the_project_is_a_notice() -> None:
    outside = ServiceSpec("one", command=("x",), cwd=Path("/elsewhere"))
    _, notices = portable_toml(replace(projects.shop(), services=(outside,)))
    assert [notice.key for notice in notices] == ["services.one.cwd"]


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("DB_PASSWORD", "x", True),
        ("session_secret", "x", True),
        ("API_KEY", "x", True),
        ("AUTH_TOKEN", "", True),
        ("DATABASE_URL", "postgres://u:p@db/x", True),
        ("DATABASE_URL", "postgres://db/x", False),
        ("KEYBOARD", "x", False),
        ("TOKENIZER", "x", False),
        ("PRIMARY_KEY", "id", False),
    ],
)
def test_secrets_are_recognized_by_name_or_by_a_password_in_a_url(
    name: str, value: str, secret: bool
) -> None:
    assert is_secret(name, value) is secret


def test_remote_service_is_reached_at_its_url_and_its_password_is_a_secret() -> None:
    far = ServiceSpec("far", app="x:y", url="https://me:hush@far.example")
    near = ServiceSpec("near", app="x:y", depends_on=(Dependency("far"), Dependency("gateway")))
    project = replace(projects.course(), services=(far, near, projects.course().services[-1]))
    names = {"near": "near", "gateway": "gateway"}
    found = {w.name: w for w in workloads(project, names, container_addresses(project, names))}
    assert set(found) == {"near", "gateway"}
    assert found["near"].secrets == ("MSCTL_FAR_URL",)
    assert found["near"].variables == {"GATEWAY_URL": "http://gateway:8080"}


def test_ports_are_kept_unless_they_clash() -> None:
    found, notices = machine_addresses(projects.course())
    assert found["gateway"] == HostPort("127.0.0.1", 8080)
    assert found["users"] == HostPort("127.0.0.1", 8081)
    assert found["hello"].port != 8080
    assert {notice.key for notice in notices} == {
        "services.hello.port",
        "services.producer.port",
        "services.consumer.port",
    }


def test_ipv6_address_is_bracketed() -> None:
    assert HostPort("::1", 80).url == "http://[::1]:80"


@pytest.mark.parametrize(
    ("mode", "url", "ours", "where"),
    [
        (BrokerMode.AUTO, "amqp://guest:guest@localhost:5672/", True, "amqp://x@rabbitmq:5672/"),
        (BrokerMode.EXTERNAL, "amqp://localhost:5673/v", True, "amqp://x@rabbitmq:5672/v"),
        (BrokerMode.EXTERNAL, "amqp://mq.example", False, "amqp://x@mq.example:5672/"),
        (BrokerMode.AUTO, "amqps://u:p@mq.example/v", False, "amqps://x@mq.example:5671/v"),
    ],
)
def test_local_broker_is_replaced_and_a_remote_one_kept(
    mode: BrokerMode, url: str, ours: bool, where: str
) -> None:
    plan = broker_plan(BrokerSpec(mode, url))
    assert (plan.is_ours, plan.url("x")) == (ours, where)


def test_command_that_does_not_listen_gets_no_port() -> None:
    project = replace(projects.course(), services=(ServiceSpec("worker", command=("w",)),))
    (worker,) = workloads(project, {"worker": "worker"}, container_addresses(project, {"worker": "worker"}))
    assert worker.serve("0.0.0.0") == ("serve", "worker")


def test_the_gateway_reaches_services_that_only_routes_of_others_name() -> None:
    canary = RouteSpec("/", "one", canary=CanarySpec("two", 0.5))
    services = (
        ServiceSpec("one", app="a:b", routes=(canary,)),
        ServiceSpec("two", command=("two",), routed=True),
        ServiceSpec("gateway"),
    )
    project = replace(projects.course(), services=services)
    addresses = {name: HostPort(name, 8000) for name in ("one", "two")}
    found = workloads(project, {spec.name: spec.name for spec in services}, addresses)
    assert set(found[2].variables) >= {"MSCTL_ONE_URL", "MSCTL_TWO_URL"}
