"""kubectl builds the kustomize base, and each object is valid for the newest Kubernetes versions."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from kubernetes_validate.utils import ValidationError, validate

from msctl.export import ExportOptions, export
from msctl.model.project import Project
from msctl.model.service_spec import ServiceSpec
from tests.support import tools, yaml_files
from tests.unit.export import projects

NEWEST = 3


def newest_versions() -> list[str]:
    """The three newest versions whose schemas the package has."""
    folder = files(kubernetes_validate) / "kubernetes-json-schema"
    found = {
        entry.name.removeprefix("v").split("-")[0] for entry in folder.iterdir() if entry.name.startswith("v")
    }
    return sorted(found, key=lambda version: tuple(map(int, version.split("."))))[-NEWEST:]


def write(folder: Path, project: Project, options: ExportOptions | None = None) -> None:
    for file in export("kubernetes", project, options).files:
        (folder / file.path).write_text(file.text)


def built(folder: Path) -> list[dict[str, Any]]:
    output = tools.accepts([tools.require("kubectl"), "kustomize", str(folder)])
    return [document for document in yaml_files.read_all(output) if document]


@pytest.mark.parametrize("project", [projects.course(), projects.shop()], ids=["course", "shop"])
def test_kubectl_builds_it_and_every_object_is_valid(project: Project, tmp_path: Path) -> None:
    write(tmp_path, project)
    documents = built(tmp_path)
    assert len(newest_versions()) == NEWEST
    for version in newest_versions():
        for document in documents:
            validate(document, version, strict=True)
    namespaces = {
        document["metadata"].get("namespace") for document in documents if document["kind"] != "Namespace"
    }
    assert len(namespaces) == 1


def test_schemas_refuse_a_mistake(tmp_path: Path) -> None:
    write(tmp_path, projects.course())
    deployment = next(document for document in built(tmp_path) if document["kind"] == "Deployment")
    deployment["spec"]["replica"] = 1
    with pytest.raises(ValidationError):
        validate(deployment, newest_versions()[-1], strict=True)


def test_the_image_and_the_configuration_are_tied_in_by_kustomize(tmp_path: Path) -> None:
    write(tmp_path, projects.course(), ExportOptions(image="registry.example:5000/shop:1.2"))
    documents = built(tmp_path)
    users = next(d for d in documents if d["kind"] == "Deployment" and d["metadata"]["name"] == "users")
    pod = users["spec"]["template"]["spec"]
    (config,) = [d for d in documents if d["kind"] == "ConfigMap"]
    assert pod["containers"][0]["image"] == "registry.example:5000/shop:1.2"
    assert pod["volumes"][0]["configMap"]["name"] == config["metadata"]["name"] != "msctl-config"
    assert "[services.users]" in config["data"]["msctl.toml"]


@pytest.mark.parametrize(
    "value",
    ['it\'s "q"', "a\nb: c\n- d", "$HOME $$ $(X) ${Y}", "{{ x }}", "#c", " lead", "\u2028\ttab", "no"],
)
def test_a_literal_value_reaches_a_program_as_it_is(value: str, tmp_path: Path) -> None:
    spec = ServiceSpec("app", command=("node", "a.js"), env={"X": value.replace("$", "$$")})
    write(tmp_path, replace(projects.course(), services=(spec,), gateway=None))
    (deployment,) = [d for d in built(tmp_path) if d["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (found,) = [each["value"] for each in container["env"] if each["name"] == "X"]
    assert found.replace("$$(", "$(") == value  # the kubelet reads $$( as $(
