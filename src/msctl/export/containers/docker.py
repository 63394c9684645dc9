"""`docker`: one image for what runs in Python, whose command chooses the service; one for any other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from msctl import __version__
from msctl.export.containers.health_command import health_command
from msctl.export.containers.images import (
    USER,
    Language,
    dockerfile_of,
    image_list_notices,
    image_name,
    images,
)
from msctl.export.containers.images import dockerfile as dockerfile_by_language
from msctl.export.health import INTERVAL_S, RETRIES, TIMEOUT_S
from msctl.export.kind import ExportKind, ExportOptions, File, Item, Notice
from msctl.export.names import labels
from msctl.export.portable import image_notices, inside
from msctl.export.workloads import EVERYWHERE, Workload, container_addresses, local_services, workloads
from msctl.model.project import Project

PYTHON = "3.13"
PYTHON_PROJECT = ""
"""The key in `lock_files` of the image of what runs in Python."""
WHEEL = f"wheels/microservice_ctl-{__version__}-py3-none-any.whl"


def container_workloads(project: Project) -> tuple[Workload, ...]:
    names = labels(spec.name for spec in local_services(project))
    return workloads(project, names, container_addresses(project, names))


def image_files(project: Project, options: ExportOptions) -> Iterator[Item]:
    """Yield the Dockerfiles of all images that are built from this project, and what they leave out."""
    found = container_workloads(project)
    known = images(project, found, options)
    shared = tuple(each for each in found if known[each.name].language is Language.PYTHON)
    if shared or not found:
        yield File("Dockerfile", dockerfile(project, options, shared))
        # This name has precedence over the user's .dockerignore, which stays as it is.
        yield File("Dockerfile.dockerignore", dockerignore(project))
        yield Notice("MSCTL_WHEEL", f"the build installs {WHEEL}; the Dockerfile shows how to make it")
    for workload in found:
        if known[workload.name].language in (Language.NODE, Language.GO):
            health = list(_health_lines(workload, known[workload.name].language))
            yield File(dockerfile_of(workload), dockerfile_by_language(workload, project, options, health))
            yield File(f"{dockerfile_of(workload)}.dockerignore", dockerignore(project))
    yield from image_notices(shared, project.root)
    yield from image_list_notices(found, known, options)


def _health_lines(workload: Workload, language: Language) -> Iterator[str]:
    check = workload.health
    command = None if check is None else health_command(check, language)
    if check is not None and command is not None:
        yield (
            f"HEALTHCHECK --interval={check.interval_s}s --timeout={check.timeout_s + 1}s"
            f" --start-period={check.start_period_s}s --retries={check.retries} \\"
        )
        yield f"    CMD {json.dumps(command)}"


def _locked(options: ExportOptions) -> list[str]:
    """Install what the project's uv.lock names."""
    if options.lock_files.get(PYTHON_PROJECT) != "uv.lock":
        return []
    return [
        "COPY pyproject.toml uv.lock /src/",
        "RUN pip install uv \\",
        "    && uv export --frozen --no-dev --no-emit-project --directory /src -o /src/locked.txt \\",
        "    && /opt/venv/bin/pip install -r /src/locked.txt",
    ]


def dockerfile(project: Project, options: ExportOptions, found: Sequence[Workload]) -> str:
    first = next((workload for workload in found if workload.address is not None), None)
    image = image_name(project, options)
    lines = [
        "# syntax=docker/dockerfile:1",
        f"# {project.name}: one image for all services in Python; the command chooses the service.",
        "#",
        f"#   docker build -t {image} -f Dockerfile {options.context}",
    ]
    if first is not None and first.address is not None:
        port = first.address.port
        lines += [f"#   docker run --rm -p 127.0.0.1:{port}:{port} {image} serve {first.name}"]
    lines += [
        "#",
        "# msctl is installed from a wheel in the build context:",
        "#   pip wheel --no-deps --wheel-dir wheels PATH_OF_MSCTL",
        "",
        f"ARG PYTHON={PYTHON}",
        "",
        "FROM python:${PYTHON}-slim AS build",
        f"ARG MSCTL_WHEEL={WHEEL}",
        "ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1",
        "RUN python -m venv /opt/venv",
        "COPY ${MSCTL_WHEEL} requirements*.txt /src/",
        "RUN /opt/venv/bin/pip install /src/*.whl \\",
        "    && if [ -f /src/requirements.txt ]; then /opt/venv/bin/pip install -r /src/requirements.txt; fi",
        *_locked(options),
        "",
        "FROM python:${PYTHON}-slim",
        f"RUN useradd --uid {USER} --user-group --no-create-home --shell /usr/sbin/nologin msctl",
        "COPY --from=build /opt/venv /opt/venv",
        "ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1",
        "WORKDIR /app",
    ]
    if project.root is not None:
        lines += ["COPY . /app"]
    lines += [f"USER {USER}:{USER}"]
    if first is not None and first.address is not None:
        check = (
            'import os, socket; socket.create_connection(("127.0.0.1", int(os.environ["PORT"])), '
            f"{TIMEOUT_S:g}).close()"
        )
        lines += [
            f"ENV HOST={EVERYWHERE} PORT={first.address.port}",
            f"EXPOSE {' '.join(str(port) for port in _ports(found))}",
            f"HEALTHCHECK --interval={INTERVAL_S:g}s --timeout={TIMEOUT_S + 1:g}s"
            f" --start-period=60s --retries={RETRIES} \\",
            f"    CMD {json.dumps(['python', '-c', check])}",
        ]
    lines += ['ENTRYPOINT ["msctl"]']
    if found:
        lines += [f"CMD {json.dumps(['serve', (first or found[0]).name])}"]
    return "\n".join(lines) + "\n"


def _ports(found: Sequence[Workload]) -> list[int]:
    return sorted({workload.address.port for workload in found if workload.address is not None})


_DOCKERIGNORE = """\
# Secrets, history, and what the build creates.
.env
.env.*
**/.env
**/.env.*
.git
**/__pycache__
**/*.pyc
.venv
venv
**/node_modules
dist
build
.pytest_cache
.mypy_cache
.ruff_cache
"""


_SPECIAL = re.compile(r"[*?\[\\]|^[!#]")
"""Special characters in a .dockerignore, which a backslash escapes."""


def dockerignore(project: Project) -> str:
    """Return the files to keep out of the build context; also private keys and passwords.

    Folders of static files are in it, whatever their names.
    """
    if project.root is None:
        return _DOCKERIGNORE
    lines = [f"!{line}" for root in _static_roots(project) if (line := _literal(project.root, Path(root)))]
    files = [path for _, path in secret_files(project)]
    if project.gateway is not None and project.gateway.tls.key is not None:
        files.append(project.gateway.tls.key)
    lines += [line for path in files if (line := _literal(project.root, path))]
    return _DOCKERIGNORE + "".join(f"{line}\n" for line in dict.fromkeys(lines))


def _literal(root: Path, path: Path) -> str | None:
    """Return a line of a .dockerignore for this path alone; None if it is outside of the project."""
    within = inside(root, path)
    if within is None or within == Path():
        return None
    return _SPECIAL.sub(r"\\\g<0>", within.as_posix())


def _static_roots(project: Project) -> Iterator[str]:
    for spec in project.services:
        for static in (spec.static, *(route.static for route in spec.routes)):
            if static is not None:
                yield static.root


def secret_files(project: Project) -> Iterator[tuple[str, Path]]:
    """Yield the files with keys and passwords of services and routes, with their keys in msctl.toml."""
    for spec in project.services:
        if spec.tls is not None and spec.tls.key is not None:
            yield f"services.{spec.name}.tls.key", spec.tls.key
        for route in spec.routes:
            for path in route.key_files:
                yield f"services.{spec.name}.routes.basic_auth.file", path


def secret_file_notices(project: Project) -> Iterator[Notice]:
    """Say which files must be given to the containers."""
    for key, path in secret_files(project):
        within = None if project.root is None else inside(project.root, path)
        yield Notice(key, f"not in the image: mount {within or path} into the gateway's container")


def render(project: Project, options: ExportOptions) -> Iterator[Item]:
    yield from image_files(project, options)
    if project.gateway is not None and project.gateway.tls.key is not None:
        yield Notice(
            "gateway.tls.key",
            "not in the image: mount it at its path, or remove [gateway.tls] from the image's msctl.toml",
        )
    yield from secret_file_notices(project)


KIND = ExportKind(
    "docker",
    "A Dockerfile: small, multi-stage, not root, with a health check",
    render,
    frozenset({"image", "registry", "tag"}),
)
