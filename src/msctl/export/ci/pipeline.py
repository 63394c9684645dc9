"""The commands of a pipeline's stages, for every CI system."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from msctl.export.containers.docker import PYTHON, WHEEL, container_workloads
from msctl.export.containers.images import Image, image_name, images
from msctl.export.kind import ExportOptions, Notice
from msctl.export.names import project_label
from msctl.export.workloads import HostPort, gateway_scheme
from msctl.model.project import Project

PYTHON_IMAGE = f"python:{PYTHON}"
KUBECTL_IMAGE = "alpine/k8s:1.34.1"
"""Kubernetes' own image of kubectl has no shell, which every step of a job needs."""
CHECK_VARIABLES = {"MSCTL_BROKER_MODE": "embedded", "PIP_CACHE_DIR": ".cache/pip"}


def comment(project: Project) -> str:
    return "\n".join(
        (
            f"{project.name}: starts the system and sends it a request, then builds and deploys its image.",
            "It needs the files of these commands in the repository:",
            "",
            "  msctl export docker",
            "  msctl export kubernetes",
        )
    )


def install() -> list[str]:
    return [
        "python -m venv .venv",
        ". .venv/bin/activate",
        f"pip install {WHEEL}",
        "if [ -f requirements.txt ]; then pip install -r requirements.txt; fi",
    ]


def check(project: Project) -> list[str]:
    """Return the commands that check, start and query the project."""
    commands = ["msctl config", "msctl up -d --wait-timeout 2m", "msctl status"]
    gateway = project.gateway
    if gateway is not None and gateway.ready_path is not None and gateway.port:
        url = HostPort("127.0.0.1", gateway.port, gateway_scheme(project)).url + gateway.ready_path
        # The certificate is not for localhost.
        insecure = " --insecure" if gateway.tls.enabled else ""
        commands.append(f"curl --fail --silent --show-error{insecure} {shlex.quote(url)}")
    return commands


def built(project: Project, options: ExportOptions) -> list[Image]:
    """Return the images that the pipeline builds."""
    found = images(project, container_workloads(project), replace(options, context=".", folder="."))
    return list({image.name: image for image in found.values() if image.dockerfile is not None}.values())


def repository(project: Project, options: ExportOptions) -> str:
    """Return the shared image's name without its tag."""
    return image_name(project, options).rpartition(":")[0]


def build(found: Sequence[Image], name: Callable[[Image], str]) -> list[str]:
    """Return the commands that build each image by its `name` in the registry, and push it."""
    commands = []
    for image in found:
        where = f"-f {shlex.quote(image.dockerfile or '')} {shlex.quote(image.context)}"
        commands += [f'docker build --pull -t "{name(image)}" {where}', f'docker push "{name(image)}"']
    return commands


def deploy(
    project: Project, found: Sequence[Image], name: Callable[[Image], str], namespace: str
) -> list[str]:
    """Return the commands that deploy each image by its `name` in place of the manifests'."""
    edits = " ".join(f'-e "s|image: {image.repository}:.*|image: {name(image)}|"' for image in found)
    commands = [
        f"kubectl kustomize kubernetes | sed {edits} | kubectl apply -f -"
        if edits
        else "kubectl apply -k kubernetes"
    ]
    if any(spec.oneshot for spec in project.services):
        # The template of a Job is immutable, and the new image changes it.
        part = f"app.kubernetes.io/part-of={project_label(project)}"
        commands.insert(0, f"kubectl -n {namespace} delete job -l {part} --ignore-not-found")
    return [*commands, f"kubectl -n {namespace} rollout status deployment --timeout=5m"]


def notices() -> Iterator[Notice]:
    yield Notice("msctl", f"the pipeline installs {WHEEL} from the repository")
