"""What came from `.env`, `${...}` or is marked secret leaves as a reference, whatever its name and value."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from msctl.config.reading.load import load
from msctl.config.render import to_toml
from msctl.errors import ConfigError
from msctl.export import KINDS, ExportOptions, export
from msctl.export.portable import portable_toml
from msctl.model.project import Project
from msctl.model.service_spec import ServiceSpec
from msctl.processes.environment import environment, fill_in
from tests.support import yaml_files

TOML = """
[services.api]
command = ["python3", "api.py", "--key=${API}", "$PORT"]
port = 8081
routes = [{ path = "/api", request_headers = { set = { X-Upstream = "Bearer ${UPSTREAM}" } } }]
health = { http = "/healthz", headers = { X-Probe = "${PROBE}" } }
[services.api.env]
PLAIN = "shown"
COLOUR = "${COLOUR:-blue}"
BANNER = "${HARMLESS}"
DSN = "postgres://me:${PW}@db/$PORT"
MARKED = { value = "marked-hush", secret = true }
REST = { value = "${REST}", secret = true }
LITERAL_URL = "redis://:literal-hush@${CACHE}/0"

[services.job]
command = ["sh", "-c", "echo ${PW}"]
oneshot = true

[broker]
mode = "external"
url = "amqp://mq.example:5672/"
username = "me"
password = "${BROKER}"
"""
HOSTILE = "hush'\"\\ $PATH ${PW} `id` $$ p/w+x#y=@z"
VALUES = {
    "API": HOSTILE + " api",
    "UPSTREAM": "hush-upstream",
    "PROBE": "hush-probe",
    "HARMLESS": HOSTILE + "\nsecond line",
    "PW": HOSTILE,
    "REST": "hush-rest",
    "CACHE": "cache",
    "BROKER": "hush/p/w+x#y=@z",
}
DOTENV = "SHARED='hush-shared'\n"


def project(folder: Path, values: dict[str, str] | None = None) -> Project:
    (folder / "msctl.toml").write_text(TOML)
    (folder / ".env").write_text(DOTENV)
    return load(cwd=folder, env=VALUES if values is None else values).project


def spec_of(found: Project, name: str) -> ServiceSpec:
    spec = found.service(name)
    assert spec is not None
    return spec


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_no_export_holds_a_value_from_a_variable_or_a_marked_one(kind: str, tmp_path: Path) -> None:
    exported = export(kind, project(tmp_path))
    written = "".join(file.text for file in exported.files)
    assert "hush" not in written
    assert "hush" not in "".join(f"{notice.key} {notice.text}" for notice in exported.notices)


def test_config_shows_references_in_place_of_values(tmp_path: Path) -> None:
    shown = to_toml(project(tmp_path))
    assert "hush" not in shown
    assert "--key=${API}" in shown
    assert "Bearer ${UPSTREAM}" in shown
    assert 'PLAIN = "shown"' in shown
    assert 'MARKED = "***"' in shown


def test_the_exported_configuration_means_the_same_where_its_variables_are_set(tmp_path: Path) -> None:
    here = project(tmp_path)
    there = tmp_path / "there"
    there.mkdir()
    (there / "msctl.toml").write_text(portable_toml(here)[0])
    given = {**VALUES, "MARKED": "marked-hush", "LITERAL_URL": "redis://:literal-hush@cache/0"}
    again = load(cwd=there, env=given).project
    for name in ("api", "job"):
        before, after = spec_of(here, name), spec_of(again, name)
        shell = {**given, "PORT": "1"}
        full = environment(before, here, shell=shell, assigned={})
        full_again = environment(after, again, shell=shell, assigned={})
        assert {key: full_again[key] for key in before.env} == {key: full[key] for key in before.env}
        assert fill_in(after.command or (), full_again) == fill_in(before.command or (), full)
        assert after.routes == before.routes


def test_the_exported_configuration_can_be_read_without_another_services_variables(tmp_path: Path) -> None:
    text = portable_toml(project(tmp_path))[0]
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "msctl.toml").write_text(text)
    assert load(cwd=tmp_path / "there", env={}).project.service("job")


def compose(found: Project) -> dict[str, Any]:
    (text,) = [file.text for file in export("compose", found).files if file.path == "compose.yaml"]
    services: dict[str, Any] = yaml_files.read(text)["services"]
    return services


def test_compose_names_what_each_service_needs(tmp_path: Path) -> None:
    services = compose(project(tmp_path))
    api = services["api"]["environment"]
    assert {"API", "HARMLESS", "PW", "REST", "MARKED", "LITERAL_URL", "PROBE"} <= api.keys()
    assert api["PW"].startswith("${PW:?")
    assert api["COLOUR"] is None  # it has a default
    assert api["SHARED"].startswith("${SHARED?")
    assert api["MSCTL_BROKER_USERNAME"] == "me"
    assert services["gateway"]["environment"]["UPSTREAM"].startswith("${UPSTREAM:?")
    assert "API" not in services["gateway"]["environment"]
    assert "UPSTREAM" not in services["job"]["environment"]


def test_kubernetes_reads_them_from_secrets(tmp_path: Path) -> None:
    files = {file.path: file.text for file in export("kubernetes", project(tmp_path)).files}
    (deployment,) = [d for d in yaml_files.read_all(files["api.yaml"]) if d["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    found = {
        each["name"]: each["valueFrom"]["secretKeyRef"] for each in container["env"] if "valueFrom" in each
    }
    assert found["PW"] == {"name": "api-secrets", "key": "PW"}
    assert found["COLOUR"]["optional"] is True
    assert found["SHARED"] == {"name": "project.env", "key": "SHARED"}
    assert "exec" in container["readinessProbe"]  # httpGet cannot read a Secret


def test_a_unit_reads_all_that_the_configuration_names_and_the_brokers_url(tmp_path: Path) -> None:
    files = {file.path: file.text for file in export("systemd", project(tmp_path)).files}
    name = next(path for path in files if path.endswith("-api.service"))
    lines = [line for line in files[name].splitlines() if line.startswith("EnvironmentFile=")]
    assert len(lines) == 2
    notices = [(notice.key, notice.text) for notice in export("systemd", project(tmp_path)).notices]
    assert any(key == "services.api.env" and "AMQP_URL" in text for key, text in notices)
    (shared,) = [text for key, text in notices if key == ".env"]
    assert {"PW", "BROKER", "SHARED", "UPSTREAM"} <= set(shared.partition(":")[0].split(", "))


@pytest.mark.parametrize("kind", ["compose", "kubernetes", "systemd", "procfile"])
def test_an_export_lists_what_it_writes_in_clear(kind: str, tmp_path: Path) -> None:
    (tmp_path / "msctl.toml").write_text(TOML.replace("port = 8081", 'port = "${API_PORT}"'))
    (tmp_path / ".env").write_text(DOTENV)
    found = load(cwd=tmp_path, env={**VALUES, "API_PORT": "8081"}).project
    notices = [(each.key, each.text) for each in export(kind, found).notices if "in clear" in each.text]
    assert ("services.api.env", "PLAIN: written in clear") in notices
    assert any(key == "services.api.port" and "API_PORT" in text for key, text in notices)


@pytest.mark.parametrize("kind", ["compose", "kubernetes", "systemd", "procfile"])
def test_a_variable_that_removes_or_changes_a_service_is_named(kind: str, tmp_path: Path) -> None:
    given = {**VALUES, "MSCTL_JOB_URL": "http://10.0.0.1:1", "MSCTL_API_PORT": "9999"}
    (tmp_path / "msctl.toml").write_text(TOML)
    resolved = load(cwd=tmp_path, env=given)
    exported = export(kind, resolved.project, ExportOptions(sources=resolved.sources))
    notices = [(each.key, each.text) for each in exported.notices]
    assert any(key == "services.job" and "MSCTL_JOB_URL" in text for key, text in notices)
    assert any(key == "services.api.port" and "MSCTL_API_PORT" in text for key, text in notices)


@pytest.mark.parametrize("kind", ["systemd", "procfile"])
def test_a_process_that_reads_msctl_toml_gets_the_address_that_a_variable_gave(
    kind: str, tmp_path: Path
) -> None:
    (tmp_path / "msctl.toml").write_text(TOML)
    resolved = load(cwd=tmp_path, env={**VALUES, "MSCTL_JOB_URL": "http://10.0.0.1:1"})
    exported = export(kind, resolved.project, ExportOptions(sources=resolved.sources))
    assert "MSCTL_JOB_URL=http://10.0.0.1:1" in "".join(file.text for file in exported.files)


def test_an_error_about_a_value_from_a_variable_does_not_repeat_it(tmp_path: Path) -> None:
    (tmp_path / "msctl.toml").write_text('[services.a]\ncommand = "a"\nport = "${PW}"\nhealth = "${PW}"\n')
    with pytest.raises(ConfigError) as caught:
        load(cwd=tmp_path, env={"PW": HOSTILE})
    assert "hush" not in f"{caught.value.message} {caught.value.hint}"
    assert "${PW}" in caught.value.message


@pytest.mark.parametrize("password", ["p/w+x#y=@z", "12/34@x:y", "%41 %", "a b\"c'$d"])
def test_the_brokers_password_is_quoted_into_its_url(password: str, tmp_path: Path) -> None:
    (tmp_path / "msctl.toml").write_text('[broker]\nmode = "external"\nurl = "amqp://mq.example/shop"\n')
    given = {"MSCTL_BROKER_USERNAME": "me@x", "MSCTL_BROKER_PASSWORD": password}
    broker = load(cwd=tmp_path, env=given).project.broker
    parts = urlsplit(broker.url)
    assert (unquote(parts.username or ""), unquote(parts.password or "")) == ("me@x", password)
    assert (parts.hostname, parts.path) == ("mq.example", "/shop")


def test_a_mark_needs_a_value_and_only_known_keys(tmp_path: Path) -> None:
    for table in ("{ secret = true }", '{ value = "x", secrte = true }', '{ value = "x", secret = "maybe" }'):
        (tmp_path / "msctl.toml").write_text(f'[services.a]\ncommand = "a"\n[services.a.env]\nX = {table}\n')
        with pytest.raises(ConfigError) as caught:
            load(cwd=tmp_path, env={})
        assert "services.a.env.X" in caught.value.message


def test_a_probe_with_a_secret_runs_in_a_shell_that_knows_it(tmp_path: Path) -> None:
    (tmp_path / "msctl.toml").write_text(
        '[services.a]\ncommand = "a"\nport = 1\nhealth = { exec = ["check", "a b", "${PW}"] }\n'
    )
    found = load(cwd=tmp_path, env={"PW": "hush"}).project
    test = compose(found)["a"]["healthcheck"]["test"]
    assert test[:3] == ["CMD", "sh", "-c"]
    assert shlex.split(test[3].replace("$$", "$")) == ["exec", "check", "a b", "${PW}"]


@pytest.mark.parametrize("value", ["$HOME", "${HOME}", "a$$b", "$$PORT", "\\$x"])
def test_a_value_from_a_variable_reaches_the_service_as_it_is(value: str, tmp_path: Path) -> None:
    (tmp_path / "msctl.toml").write_text(
        '[services.a]\ncommand = ["a", "${PW}"]\nenv = { PW_TOO = "<${PW}>" }\n'
        '[services.b]\ncommand = ["sh", "-c", "echo ${PW}"]\n'
    )
    found = load(cwd=tmp_path, env={"PW": value}).project
    full = environment(spec_of(found, "a"), found, shell={"HOME": "/root", "PORT": "1"}, assigned={})
    assert full["PW_TOO"] == f"<{value}>"
    assert fill_in(spec_of(found, "a").command or (), full) == ["a", value]
    assert fill_in(spec_of(found, "b").command or (), full)[-1] == f"echo {value}"


def test_an_error_about_the_brokers_url_tells_what_is_wrong_without_its_password(tmp_path: Path) -> None:
    (tmp_path / "msctl.toml").write_text('[broker]\nurl = "${URL}"\n')
    with pytest.raises(ConfigError) as caught:
        load(cwd=tmp_path, env={"URL": "http://me:hush@mq.example"})
    assert "http://" in caught.value.message
    assert "hush" not in caught.value.message


def test_the_gateway_reads_the_login_of_a_registry_from_the_target(tmp_path: Path) -> None:
    (tmp_path / "msctl.toml").write_text(
        '[services.a]\ncommand = "a"\nroutes = ["/a"]\nport = 1\nannounce = false\n'
        '[discovery]\nurl = "etcd://me:hush@etcd.example:2379"\n'
    )
    found = load(cwd=tmp_path, env={}).project
    assert "hush" not in "".join(file.text for file in export("compose", found).files)
    services = compose(found)
    assert "MSCTL_DISCOVERY_URL" in services["gateway"]["environment"]
    assert "MSCTL_DISCOVERY_URL" not in services["a"]["environment"]
