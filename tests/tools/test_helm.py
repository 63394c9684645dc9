"""The chart, rendered by Go's text/template as helm renders it: the same objects as the kustomize base.

helm itself is not in the package registries that tests can reach; what it adds to text/template are sprig's
functions, of which the charts use five.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kubernetes_validate.utils import validate

from msctl.export import ExportOptions, export
from msctl.model.project import Project
from msctl.model.service_spec import ServiceSpec
from tests.support import tools, yaml_files
from tests.tools.test_kubernetes import newest_versions
from tests.unit.export import projects

RENDERER = Path(__file__).parents[1] / "support" / "helm" / "main.go"


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("helm") / "render"
    tools.accepts([tools.require("go"), "build", "-o", str(binary), str(RENDERER)])
    return binary


def write(folder: Path, project: Project, options: ExportOptions | None = None) -> None:
    for file in export("helm", project, options).files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)


def rendered(renderer: Path, chart: Path, values: dict[str, Any] | None = None) -> dict[tuple[str, str], Any]:
    """Each object by kind and name; `values` are merged over those of the chart."""
    known = merged(yaml_files.read((chart / "values.yaml").read_text()), values or {})
    done = subprocess.run(
        [str(renderer), str(chart)], input=json.dumps(known), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found = [each for each in yaml_files.read_all(done.stdout) if each]
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


def merged(into: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    found = dict(into)
    for key, value in more.items():
        found[key] = merged(found[key], value) if isinstance(value, dict) and key in found else value
    return found


def kustomized(project: Project, options: ExportOptions | None = None) -> dict[tuple[str, str], Any]:
    found = {}
    for file in export("kubernetes", project, options).files:
        if file.path.endswith(".yaml") and file.path != "kustomization.yaml":
            for each in yaml_files.read_all(file.text):
                found[each["kind"], each["metadata"]["name"]] = each
    return found


def normal(found: dict[tuple[str, str], Any]) -> dict[tuple[str, str], Any]:
    """The objects without what kustomize and helm each do in their own way."""
    normal = {}
    for (kind, name), each in found.items():
        if kind in ("Namespace", "ConfigMap"):
            continue
        if kind in ("Deployment", "Job"):
            pod = each["spec"]["template"]
            pod["metadata"].get("annotations", {}).pop("checksum/config", None)
            pod["spec"].pop("imagePullSecrets", None)
            pod["spec"]["containers"][0]["image"] = ""
        if kind == "Job":
            name = "-".join(name.split("-")[:2])
            each["metadata"]["name"] = name
        if kind == "Ingress" and not each["metadata"].get("annotations", {"": ""}):
            del each["metadata"]["annotations"]
        normal[kind, name] = each
    return normal


@pytest.mark.parametrize("project", [projects.course(), projects.shop()], ids=["course", "shop"])
@pytest.mark.parametrize(
    "options",
    [
        ExportOptions(),
        ExportOptions(host="shop.example", ingress_class="nginx", tls_secret="tls", registry="r.example"),
        ExportOptions(host="shop.example", gateway_api="infra/public", tag="1.2"),
        ExportOptions(gateway_api="public", native_routes=True),
    ],
    ids=["plain", "ingress", "gateway", "native"],
)
def test_the_chart_makes_the_objects_of_the_kustomize_base(
    renderer: Path, project: Project, options: ExportOptions, tmp_path: Path
) -> None:
    write(tmp_path, project, options)
    found = rendered(renderer, tmp_path)
    for each in found.values():
        validate(each, newest_versions()[-1], strict=True) if each["kind"] != "HTTPRoute" else None
    assert normal(found) == normal(kustomized(project, options))


def test_values_choose_image_replicas_resources_and_entry(renderer: Path, tmp_path: Path) -> None:
    write(tmp_path, projects.shop())
    found = rendered(
        renderer,
        tmp_path,
        {
            "images": {"my-shop": {"repository": "r.example/shop", "tag": "2"}},
            "services": {"orders": {"replicas": 7, "resources": {"limits": None}}},
            "ingress": {"enabled": False},
            "imagePullSecrets": [{"name": "pull"}],
        },
    )
    spec = found["Deployment", "orders"]["spec"]
    pod = spec["template"]["spec"]
    assert (spec["replicas"], pod["containers"][0]["image"]) == (7, "r.example/shop:2")
    assert pod["containers"][0]["resources"]["limits"] is None
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    assert not [name for kind, name in found if kind == "Ingress"]


def test_a_new_image_or_configuration_makes_another_job_and_restarts_pods(
    renderer: Path, tmp_path: Path
) -> None:
    write(tmp_path, projects.shop())

    def job(values: dict[str, Any] | None = None) -> str:
        (name,) = [name for kind, name in rendered(renderer, tmp_path, values) if kind == "Job"]
        return name

    first = job()
    assert first == job()
    assert len(first) <= 63
    assert first != job({"images": {"my-shop": {"tag": "2"}}})
    before = rendered(renderer, tmp_path)["Deployment", "orders"]
    config = tmp_path / "files" / "msctl.toml"
    config.write_text(config.read_text() + "\n")
    assert rendered(renderer, tmp_path)["Deployment", "orders"] != before
    assert first != job()


def test_text_that_looks_like_a_template_is_kept(renderer: Path, tmp_path: Path) -> None:
    hostile = "{{ .Values.x }} }} {{- end }} $(A) ${B} 'q' \"d\" \\ \n - x: y #"
    spec = ServiceSpec("app", command=("node", "a.js", "{{ x }}"), env={"X": hostile.replace("$", "$$")})
    project = replace(projects.course(), services=(spec,), gateway=None)
    write(tmp_path, project)
    (container,) = rendered(renderer, tmp_path)["Deployment", "app"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["node", "a.js", "{{ x }}"]
    (value,) = [each["value"] for each in container["env"] if each["name"] == "X"]
    assert value == hostile.replace("$(", "$$(")


def test_the_configuration_is_the_exported_one(renderer: Path, tmp_path: Path) -> None:
    write(tmp_path, projects.shop())
    config = rendered(renderer, tmp_path)["ConfigMap", "msctl-config"]
    assert config["data"]["msctl.toml"] == (tmp_path / "files" / "msctl.toml").read_text()
