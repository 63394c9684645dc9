"""Each service's image, by its program, and what it is built from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from msctl.cli.lock_files import lock_files
from msctl.config.reading.load import load
from msctl.errors import MsctlError
from msctl.export import ExportOptions, export
from msctl.export.containers.docker import container_workloads
from msctl.export.containers.health_command import health_command
from msctl.export.containers.images import Language, images
from msctl.export.health import HealthCheck
from msctl.model.project import Project
from msctl.model.service_spec import ServiceSpec
from tests.unit.export import projects

TOML = """
[services.web]
command = "node web/server.mjs --port=$PORT --key=${KEY}"
port = 8082
[services.ts]
command = "npx tsx ts/main.ts"
[services.api]
command = "go run ./api -addr $HOST:$PORT"
port = 8083
[services.own]
command = "./own"
image = "registry.example/own:3"
[services.built]
command = "./built $PORT"
dockerfile = "built/Dockerfile"
port = 8084
[services.py]
command = "python3 py.py"
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "msctl.toml").write_text(TOML)
    for file in (
        "web/package-lock.json",
        "web/server.mjs",
        "package.json",
        "go.mod",
        "go.sum",
        "built/Dockerfile",
    ):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("")
    (tmp_path / "api").mkdir()
    return load(cwd=tmp_path, env={"KEY": "hush"}).project


def test_dependencies_come_from_the_lock_file_beside_the_program(project: Project) -> None:
    assert lock_files(project) == {
        "web": "web/package-lock.json",
        "ts": "package.json",
        "api": "go.sum",
    }


def files(project: Project) -> dict[str, str]:
    options = ExportOptions(lock_files=lock_files(project), registry="r.example", tag="1")
    return {file.path: file.text for file in export("docker", project, options).files}


def test_each_language_has_a_dockerfile_and_python_the_shared_one(project: Project) -> None:
    found = files(project)
    assert {path for path in found if not path.endswith(".dockerignore")} == {
        "Dockerfile",
        "Dockerfile.web",
        "Dockerfile.ts",
        "Dockerfile.api",
    }
    assert "RUN npm ci" in found["Dockerfile.web"]
    assert '["web/package-lock.json", "web/package.json", "./"]' in found["Dockerfile.web"]
    assert "go mod download" in found["Dockerfile.api"]
    assert "-o /out/service ./api\n" in found["Dockerfile.api"]
    assert all("USER 10001" in text for path, text in found.items() if not path.endswith("ignore"))
    assert "HEALTHCHECK" in found["Dockerfile.web"]
    assert "hush" not in "".join(found.values())


def test_what_is_known_is_filled_in_and_a_secret_left_to_a_shell(project: Project) -> None:
    known = images(project, container_workloads(project), ExportOptions())
    web, api, own, built = (known[name] for name in ("web", "api", "own", "built"))
    assert web.argv is not None
    assert web.argv[:2] == ("sh", "-c")
    assert "--port=8082" in web.argv[2] or "--port=$PORT" in web.argv[2]
    assert '"--key=${KEY}"' in web.argv[2]
    assert api.argv == ("/usr/local/bin/api", "-addr", "0.0.0.0:8083")
    assert (own.name, own.dockerfile) == ("registry.example/own:3", None)
    assert (built.argv, built.dockerfile) == (("./built", "8084"), "built/Dockerfile")
    assert known["py"].has_msctl


def test_a_registry_and_a_tag_are_those_of_every_image_that_is_built(project: Project) -> None:
    known = images(project, container_workloads(project), ExportOptions(registry="r.example/a", tag="1.2"))
    label = project.name.lower().replace("_", "-")
    assert known["py"].name == f"r.example/a/{label}:1.2"
    assert known["web"].name == f"r.example/a/{label}-web:1.2"
    assert known["own"].name == "registry.example/own:3"


def test_two_tags_are_an_error() -> None:
    with pytest.raises(MsctlError, match="--tag"):
        export("docker", projects.course(), ExportOptions(image="x:1", tag="2"))


def test_a_reference_within_another_is_refused_by_its_key() -> None:
    spec = ServiceSpec("app", command=("node", "a"), env={"X": "${A:-${B}}"})
    with pytest.raises(MsctlError, match=r"services\.app\.env\.X"):
        export("compose", replace(projects.course(), services=(spec,), gateway=None))


@pytest.mark.parametrize(
    "check", [HealthCheck(1, "/x", headers={"A": "b'\"$"}), HealthCheck(1), HealthCheck(1, "/", https=True)]
)
def test_a_health_check_uses_what_the_image_has(check: HealthCheck) -> None:
    node = health_command(check, Language.NODE)
    go = health_command(check, Language.GO)
    assert node is not None
    assert node[:2] == ["node", "-e"]
    assert go is not None
    assert go[0] in ("wget", "nc")
    assert health_command(check, Language.GIVEN) is None
    assert json.dumps(node)


def test_python_dependencies_come_from_the_lock_file_of_uv(project: Project) -> None:
    assert "uv export" not in files(project)["Dockerfile"]
    assert project.root is not None
    (project.root / "uv.lock").write_text("")
    assert "uv export --frozen" in files(project)["Dockerfile"]


@pytest.mark.parametrize(
    "options",
    [
        ExportOptions(registry="r.example/x y"),
        ExportOptions(registry="https://r.example"),
        ExportOptions(tag="1 2"),
        ExportOptions(tag="-x"),
        ExportOptions(tag="x" * 129),
        ExportOptions(image="Shop/UPPER"),
        ExportOptions(image='x"; rm -rf /'),
        ExportOptions(image=""),
    ],
)
@pytest.mark.parametrize("kind", ["docker", "compose", "kubernetes", "helm"])
def test_what_is_no_name_of_an_image_is_refused(kind: str, options: ExportOptions) -> None:
    with pytest.raises(MsctlError, match=r"^--") as caught:
        export(kind, projects.course(), options)
    assert caught.value.exit_code == 2
