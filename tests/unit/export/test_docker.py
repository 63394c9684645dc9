"""The Dockerfile: its health check, its tag, and which files it copies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from msctl.export import ExportOptions, export
from msctl.export.containers.health_command import health_command
from msctl.export.containers.images import image_name
from msctl.export.workloads import container_addresses, workloads
from msctl.model.project import Project
from msctl.model.route_policies import BasicAuthSpec, StaticSpec, UpstreamTlsSpec
from msctl.model.route_spec import RouteSpec
from msctl.model.service_spec import ServiceSpec
from msctl.model.tls_spec import TlsSpec
from tests.unit.export import projects


def test_a_health_check_is_a_program_that_python_can_read() -> None:
    project = projects.shop()
    names = {spec.name: spec.name for spec in project.services}
    for workload in workloads(project, names, container_addresses(project, names)):
        if workload.health is not None:
            python, flag, script = health_command(workload.health) or []
            assert (python, flag) == ("python", "-c")
            compile(script, workload.name, "exec")


@pytest.mark.parametrize(
    ("asked", "image"),
    [
        (None, "my-shop:latest"),
        ("shop:1", "shop:1"),
        ("reg.example:5000/shop", "reg.example:5000/shop:latest"),
        ("shop@sha256:00", "shop@sha256:00"),
    ],
)
def test_an_image_always_has_a_tag(asked: str | None, image: str) -> None:
    assert image_name(projects.shop(), ExportOptions(image=asked)) == image


def test_a_private_key_outside_of_the_projects_folder_needs_no_line() -> None:
    shop = projects.shop()
    assert shop.gateway is not None
    tls = TlsSpec(Path("/etc/ssl/shop.pem"), Path("/etc/ssl/shop.key"))
    ours = replace(shop, root=Path("/srv/shop"), gateway=replace(shop.gateway, tls=tls))
    assert "shop.key" not in export("docker", ours).files[1].text


def dockerfile(project: Project) -> str:
    return export("docker", project).files[0].text


def test_the_projects_files_are_in_the_image_if_there_are_any() -> None:
    assert "COPY . /app" in dockerfile(projects.shop())
    assert "COPY . /app" not in dockerfile(projects.course())


def test_image_without_a_listener_has_no_health_check() -> None:
    text = dockerfile(replace(projects.course(), services=(ServiceSpec("worker", command=("w",)),)))
    assert "HEALTHCHECK" not in text
    assert text.endswith('ENTRYPOINT ["msctl"]\nCMD ["serve", "worker"]\n')


def test_static_files_are_in_the_image_and_keys_and_passwords_are_not() -> None:
    root = Path("/srv/shop")
    route = RouteSpec("/", "web", basic_auth=BasicAuthSpec(file=str(root / "users")))
    tls = UpstreamTlsSpec(cert=root / "client.pem", key=root / "client-key.pem")
    services = (
        ServiceSpec("web", static=StaticSpec(str(root / "dist")), routes=(route,)),
        ServiceSpec("far", url="https://a.test", tls=tls),
        ServiceSpec("here", static=StaticSpec(str(root))),
    )
    project = replace(projects.shop(), root=root, services=services)
    exported = export("docker", project)
    ignored = next(file.text for file in exported.files if file.path.endswith(".dockerignore")).splitlines()
    assert ignored.index("!dist") > ignored.index("dist")
    assert {"users", "client-key.pem"} <= set(ignored)
    for kind in ("docker", "compose", "kubernetes"):
        keys = {notice.key for notice in export(kind, project).notices}
        assert {"services.web.routes.basic_auth.file", "services.far.tls.key"} <= keys


def test_programs_of_a_virtual_environment_are_those_of_the_images_own(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/pyvenv.cfg").touch()
    services = (
        ServiceSpec("web", command=("../.venv/bin/uvicorn", "main:app"), cwd=tmp_path / "web"),
        ServiceSpec("worker", command=(f"{tmp_path}/.venv/bin/celery", "worker")),
        ServiceSpec("tool", command=("/opt/elsewhere/tool",)),
    )
    exported = export("compose", replace(projects.course(), root=tmp_path, services=services))
    configuration = next(file.text for file in exported.files if file.path == "compose/msctl.toml")
    assert 'command = ["uvicorn", "main:app"]' in configuration
    assert 'command = ["celery", "worker"]' in configuration
    noticed = [notice.key for notice in exported.notices if notice.key.endswith(".command")]
    assert noticed == ["services.tool.command"]
