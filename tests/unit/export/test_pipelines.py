"""Pipelines: valid by GitLab's schema, a well-formed Jenkinsfile."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from msctl.export import ExportOptions, export
from msctl.model.project import Project
from tests.support import yaml_files
from tests.unit.export import projects

SCHEMA = json.loads(
    (files("check_jsonschema") / "builtin_schemas" / "vendor" / "gitlab-ci.json").read_text(encoding="utf-8")
)
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


def pipeline(project: Project, options: ExportOptions | None = None) -> dict[str, Any]:
    found: dict[str, Any] = yaml_files.read(export("gitlab-ci", project, options).files[0].text)
    return found


@pytest.mark.parametrize("project", [projects.course(), projects.shop()], ids=["course", "shop"])
def test_gitlabs_schema_holds(project: Project) -> None:
    found = pipeline(project)
    VALIDATOR.validate(found)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(found | {"check": {"script": 1}})


def test_system_is_started_and_queried_before_the_build() -> None:
    found = pipeline(projects.course())
    assert found["stages"] == ["check", "build", "deploy"]
    assert found["check"]["script"][-1] == "curl --fail --silent --show-error http://127.0.0.1:8080/-/ready"
    assert found["check"]["script"].index("msctl up -d --wait-timeout 2m") == 1


def test_deployment_is_manual() -> None:
    assert pipeline(projects.course())["deploy"]["rules"][0]["when"] == "manual"
    text = export("jenkins", projects.course()).files[0].text
    assert "input { message 'Bring it to Kubernetes?' }" in text


def test_the_jenkinsfile_is_well_formed() -> None:
    text = export("jenkins", projects.shop(), ExportOptions(image="registry.example/shop")).files[0].text
    outside = "".join(text.split("'''")[::2])
    depth = 0
    for character in outside:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert text.count("'''") % 2 == 0
    assert 'docker build --pull -t "registry.example/shop:$GIT_COMMIT" -f Dockerfile .' in text
    assert 'docker push "registry.example/shop-payments:$GIT_COMMIT"' in text


def test_the_image_of_a_job_with_a_script_has_a_shell() -> None:
    """registry.k8s.io/kubectl, distroless images and scratch have none."""
    for job in ("check", "build", "deploy"):
        image = pipeline(projects.shop())[job]["image"]
        name = image["name"] if isinstance(image, dict) else image
        assert name.partition(":")[0] in ("python", "docker", "alpine/k8s")


def test_a_deployment_replaces_the_jobs_of_the_last_one() -> None:
    assert "delete job -l" in pipeline(projects.shop())["deploy"]["script"][0]
    assert not any("delete job" in line for line in pipeline(projects.course())["deploy"]["script"])


def test_the_deployed_image_is_the_one_that_was_built() -> None:
    deploy = pipeline(projects.course(), ExportOptions(image="reg.example/x:1", namespace="prod"))["deploy"][
        "script"
    ]
    assert "s|image: reg.example/x:.*|image: $CI_REGISTRY_IMAGE:$CI_COMMIT_SHORT_SHA|" in deploy[0]
    assert "-n prod rollout status" in deploy[1]
