"""A project whose services are found in a registry, as other targets run it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from msctl.config.reading.load import load
from msctl.errors import ConfigError
from msctl.export import export
from msctl.model.project import Project

SERVICES = """
[services.users]
routes = ["/users"]

[services.orders]
app = "shop.orders:app"
host = "0.0.0.0"
port = 8082
routes = ["/orders"]
depends_on = ["users"]
discover = true
"""
CONTAINERS = ("compose", "kubernetes")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return at(tmp_path, 'url = "etcd://root:p%2Fw@10.0.0.9"')


def at(folder: Path, discovery: str) -> Project:
    (folder / "msctl.toml").write_text(f'[project]\nname = "shop"\n[discovery]\n{discovery}\n{SERVICES}')
    return load(cwd=folder, env={}).project


def notices(kind: str, project: Project) -> dict[str, str]:
    return {notice.key: notice.text for notice in export(kind, project).notices}


def portable(kind: str, project: Project) -> dict[str, Any]:
    (text,) = [file.text for file in export(kind, project).files if file.path.endswith("msctl.toml")]
    return tomllib.loads(text)


@pytest.mark.parametrize("kind", CONTAINERS)
def test_the_exported_gateway_asks_the_registry_and_no_password_is_written(
    kind: str, project: Project, tmp_path: Path
) -> None:
    written = portable(kind, project)
    assert written["discovery"] == {"url": "etcd://10.0.0.9:2379", "namespace": "shop"}
    assert written["services"]["orders"]["announce"] is False
    said = notices(kind, project)
    assert "MSCTL_DISCOVERY_URL" in said["discovery.url"]
    assert "announced" in said["discovery"]
    assert all("p%2Fw" not in file.text and "p/w" not in file.text for file in export(kind, project).files)
    (tmp_path / "written").mkdir()
    (tmp_path / "written" / "msctl.toml").write_text(
        next(file.text for file in export(kind, project).files if file.path.endswith("msctl.toml"))
    )
    assert load(cwd=tmp_path / "written", env={}).project.service("users") is not None


@pytest.mark.parametrize("kind", [*CONTAINERS, "systemd", "procfile"])
def test_a_service_found_elsewhere_is_not_exported_and_its_dependents_are_named(
    kind: str, project: Project
) -> None:
    assert "USERS_URL" in notices(kind, project)["services.users.discover"]
    assert all("serve users" not in file.text for file in export(kind, project).files)


@pytest.mark.parametrize("kind", ["nginx", "kong"])
def test_a_proxy_passes_such_routes_to_the_gateway(kind: str, project: Project) -> None:
    said = notices(kind, project)
    assert {"services.users.discover", "services.orders.discover"} <= set(said)
    text = "".join(file.text for file in export(kind, project).files)
    assert "8080" in text
    assert "8082" not in text


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_registry_of_this_machine_alone_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"discovery\.url.*users"):
        export(kind, at(tmp_path, 'url = "etcd://localhost"'))
