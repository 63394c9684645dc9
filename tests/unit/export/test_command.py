"""`msctl export`: the files that it writes, refuses to overwrite, and reports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.cli import InProcess, Msctl

CONFIG = """\
[services.user_service]
app = "shop:app"
port = 8081
routes = ["/users"]
"""


@pytest.fixture
def msctl(tmp_path: Path) -> Iterator[Msctl]:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "msctl.toml").write_text(CONFIG)
    yield InProcess(folder, tmp_path / "run", {})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_list_shows_every_kind_and_its_folder(msctl: Msctl) -> None:
    lines = msctl.ok("export", "--list").splitlines()
    assert len(lines) == 13
    assert lines[0].startswith("docker ")
    assert any(line.startswith("systemd") and line.endswith("(into systemd/)") for line in lines)


def test_files_are_written_and_listed_and_warnings_name_the_key(msctl: Msctl) -> None:
    done = msctl.run("export", "kubernetes")
    assert done.returncode == 0
    assert "written   kubernetes/user-service.yaml\n" in done.stdout
    assert "warning: services.user_service: is named 'user-service'" in done.stderr
    assert (msctl.folder / "kubernetes" / "kustomization.yaml").is_file()


def test_second_export_changes_nothing(msctl: Msctl) -> None:
    msctl.ok("export", "procfile")
    before = (msctl.folder / "Procfile").stat()
    assert msctl.ok("export", "procfile") == "unchanged Procfile\n"
    assert (msctl.folder / "Procfile").stat().st_mtime_ns == before.st_mtime_ns


def test_existing_file_with_other_content_stops_the_export(msctl: Msctl) -> None:
    (msctl.folder / "Dockerfile").write_text("FROM mine\n")
    done = msctl.run("export", "docker")
    assert done.returncode == 2
    assert done.stderr.startswith("error: already exists with other content: Dockerfile")
    assert "--force" in done.stderr
    assert (msctl.folder / "Dockerfile").read_text() == "FROM mine\n"
    assert not (msctl.folder / "Dockerfile.dockerignore").exists()


def test_force_replaces_and_reports_it(msctl: Msctl) -> None:
    (msctl.folder / "Dockerfile").write_text("FROM mine\n")
    output = msctl.ok("export", "docker", "--force")
    assert "replaced  Dockerfile\n" in output
    assert "written   Dockerfile.dockerignore\n" in output
    assert "FROM python" in (msctl.folder / "Dockerfile").read_text()
    assert names(msctl.folder) == ["Dockerfile", "Dockerfile.dockerignore", "msctl.toml"]


def test_standard_output_has_one_file_as_it_is(msctl: Msctl) -> None:
    output = msctl.ok("export", "kong", "--stdout")
    assert yaml.safe_load(output)["_format_version"] == "3.0"
    assert not (msctl.folder / "kong.yaml").exists()


def test_standard_output_separates_several_files(msctl: Msctl) -> None:
    output = msctl.ok("export", "nginx", "--stdout")
    assert output.startswith("# --- nginx.conf\n")
    assert "\n# --- shop.conf\n" in output


def test_the_build_context_is_the_project_wherever_the_files_go(msctl: Msctl) -> None:
    msctl.ok("export", "compose", "-o", "deploy/docker")
    document = yaml.safe_load((msctl.folder / "deploy/docker/compose.yaml").read_text())
    build = document["services"]["user-service"]["build"]
    assert build == {"context": "../..", "dockerfile": "deploy/docker/Dockerfile"}


def test_a_folder_that_cannot_be_written_is_a_clear_error(msctl: Msctl) -> None:
    (msctl.folder / "taken").write_text("")
    done = msctl.run("export", "procfile", "-o", "taken")
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write taken/Procfile: not a directory\nhint: ")


def test_a_folder_in_the_place_of_a_file_is_a_clear_error(msctl: Msctl) -> None:
    (msctl.folder / "Procfile").mkdir()
    done = msctl.run("export", "procfile")
    assert (done.returncode, done.stderr.split("\n")[0]) == (
        1,
        "error: cannot write Procfile: is a directory",
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("export",), "error: missing argument KIND"),
        (("export", "kubernets"), "error: unknown kind of export 'kubernets'"),
        (("export", "nginx", "--namespace", "x"), "error: --namespace has no effect on nginx"),
        (("export", "prometheus", "--target", "here"), "error: --target: 'here' is not host:port"),
    ],
)
def test_invalid_command_line_writes_nothing(msctl: Msctl, args: tuple[str, ...], message: str) -> None:
    done = msctl.run(*args)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert names(msctl.folder) == ["msctl.toml"]


def test_options_can_be_given_as_variables(msctl: Msctl) -> None:
    done = msctl.run("export", "nginx", "--stdout", env={"MSCTL_EXPORT_LISTEN": "9123"})
    assert "listen 9123 default_server;" in done.stdout


def test_images_are_built_in_the_projects_folder_wherever_the_files_go(msctl: Msctl) -> None:
    for kind in ("kubernetes", "helm"):
        msctl.ok("export", kind, "-o", f"deploy/{kind}", "--registry", "r.example")
        (file,) = (msctl.folder / "deploy" / kind).glob("*s.yaml" if kind == "helm" else "kustomization.yaml")
        assert " -f Dockerfile ." in file.read_text()


def test_compose_is_told_where_the_projects_variables_are(msctl: Msctl) -> None:
    (msctl.folder / ".env").write_text("KEY=value\n")
    msctl.ok("export", "compose", "-o", "deploy")
    assert "--env-file ../.env up" in (msctl.folder / "deploy" / "compose.yaml").read_text()
