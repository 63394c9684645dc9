"""`gitlab-ci`: check the project, build its image, deploy to Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator

from msctl.export.ci import pipeline
from msctl.export.containers.images import Image
from msctl.export.kind import ExportKind, ExportOptions, File, Item
from msctl.export.names import project_name_label
from msctl.export.yaml import dump
from msctl.model.project import Project

DOCKER = "28"


def render(project: Project, options: ExportOptions) -> Iterator[Item]:
    namespace = project_name_label(options.namespace or project.name)
    on_main = [{"if": "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH"}]
    found = pipeline.built(project, options)
    shared = pipeline.repository(project, options)

    def name(image: Image) -> str:
        """In the project's registry; an image of its own below it."""
        suffix = image.repository.removeprefix(shared).lstrip("-")
        return f"$CI_REGISTRY_IMAGE{f'/{suffix}' if suffix else ''}:$CI_COMMIT_SHORT_SHA"

    document: dict[str, object] = {
        "stages": ["check", "build", "deploy"],
        "check": {
            "stage": "check",
            "image": pipeline.PYTHON_IMAGE,
            "variables": pipeline.CHECK_VARIABLES,
            "cache": {"key": "pip", "paths": [".cache/pip"]},
            "before_script": pipeline.install(),
            "script": pipeline.check(project),
            "after_script": [". .venv/bin/activate && msctl down"],
        },
        "build": {
            "stage": "build",
            "image": f"docker:{DOCKER}",
            "services": [f"docker:{DOCKER}-dind"],
            "variables": {"DOCKER_TLS_CERTDIR": "/certs"},
            "rules": on_main,
            "script": [
                'echo "$CI_REGISTRY_PASSWORD" |'
                ' docker login -u "$CI_REGISTRY_USER" --password-stdin "$CI_REGISTRY"',
                *pipeline.build(found, name),
            ],
        },
        "deploy": {
            "stage": "deploy",
            "image": {"name": pipeline.KUBECTL_IMAGE, "entrypoint": [""]},
            "rules": [{**on_main[0], "when": "manual"}],
            "environment": {"name": "production"},
            "script": pipeline.deploy(project, found, name, namespace),
        },
    }
    yield File(".gitlab-ci.yml", dump(document, comment=pipeline.comment(project)))
    yield from pipeline.notices()


KIND = ExportKind(
    "gitlab-ci",
    ".gitlab-ci.yml: check, build, deploy",
    render,
    frozenset({"image", "registry", "namespace"}),
)
