"""The commands of a pipeline's stages, for every CI system."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from msctl.export.containers.docker import PYTHON, WHEEL, image_name
from msctl.export.kind import ExportOptions, Notice
from msctl.export.workloads import HostPort, gateway_scheme
from msctl.model.project import Project

PYTHON_IMAGE = f"python:{PYTHON}"
KUBECTL_IMAGE = "registry.k8s.io/kubectl:v1.34.1"
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


def repository(project: Project, options: ExportOptions) -> str:
    """Return the image's name without its tag."""
    return image_name(project, options).rpartition(":")[0]


def deploy(name: str, image: str, namespace: str) -> list[str]:
    """Return the commands that deploy `image` in place of `name` in the manifests."""
    return [
        f'kubectl kustomize kubernetes | sed "s|image: {name}:.*|image: {image}|" | kubectl apply -f -',
        f"kubectl -n {namespace} rollout status deployment --timeout=5m",
    ]


def notices() -> Iterator[Notice]:
    yield Notice("msctl", f"the pipeline installs {WHEEL} from the repository")
