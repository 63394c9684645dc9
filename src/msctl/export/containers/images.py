"""The image of each service, by the language of its program. Pure.

What runs in msctl or in Python shares one image, in which `msctl serve` starts it. A command in Node or Go
gets an image of its own, with the dependencies of the lock file beside it and without msctl. So does a
service with `image`, `build` or `dockerfile`. Such a container runs the command itself, with the variables
that msctl would assign.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

from msctl.errors import UsageError
from msctl.export.containers import program
from msctl.export.kind import ExportOptions, Notice
from msctl.export.names import project_label
from msctl.export.portable import inside
from msctl.export.workloads import Workload
from msctl.model.project import Project
from msctl.model.service_spec import ServiceSpec

USER = 10001
"""A number that no system account has; Kubernetes can tell from a number that it is not root."""
NODE = "22"
GO = "1.24"
ALPINE = "3.22"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_PATH = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?"
_REGISTRY = rf"{_HOST}(?:/{_PATH})*/?"
_REFERENCE = rf"(?:{_HOST}/)?{_PATH}(?:/{_PATH})*(?::{_TAG})?(?:@[a-z0-9]+:[0-9a-f]+)?"
_NODE_PROGRAMS = frozenset({"node", "npm", "npx", "yarn", "pnpm", "tsx", "ts-node"})
_INSTALL = {
    "package-lock.json": "npm ci",
    "npm-shrinkwrap.json": "npm ci",
    "yarn.lock": "corepack enable && yarn install --immutable",
    "pnpm-lock.yaml": "corepack enable && pnpm install --frozen-lockfile",
    "package.json": "npm install",
}
NODE_FILES = tuple(_INSTALL)
GO_FILES = ("go.sum", "go.mod")


class Language(StrEnum):
    """What a service's program is written in, as far as its command tells."""

    PYTHON = "python"
    NODE = "node"
    GO = "go"
    GIVEN = "given"
    """The user's own image."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image: its `name` with tag, and the Dockerfile and context to build it with, if it is built.

    `argv` is the container's command where msctl does not run it.
    """

    name: str
    language: Language
    dockerfile: str | None = None
    context: str = "."
    argv: tuple[str, ...] | None = None

    @property
    def repository(self) -> str:
        return self.name if "@" in self.name else self.name.rpartition(":")[0]

    @property
    def has_msctl(self) -> bool:
        return self.argv is None


def image_name(project: Project, options: ExportOptions, suffix: str = "") -> str:
    """Return `registry/repository:tag`; the tag is `latest` by default.

    Raises UsageError for two tags, and for what is no name of an image (by the grammar of its specification).
    """
    for option, value, pattern in (
        ("--image", options.image, _REFERENCE),
        ("--registry", options.registry, _REGISTRY),
        ("--tag", options.tag, _TAG),
    ):
        if value is not None and not re.fullmatch(pattern, value):
            raise UsageError(f"{option}: {value!r} is no part of the name of an image")
    image = options.image or project_label(project)
    has_tag = ":" in image.rpartition("/")[2] or "@" in image
    if options.tag is not None and has_tag:
        raise UsageError(f"--tag: --image {image} has a tag already", hint="leave one of them out")
    if options.registry is not None:
        image = f"{options.registry.rstrip('/')}/{image}"
    if not suffix:
        return image if has_tag else f"{image}:{options.tag or 'latest'}"
    repository, _, tag = image.partition("@")[0].rpartition(":") if has_tag else (image, "", "")
    if "@" in image:
        repository, tag = image.partition("@")[0], ""
    return f"{repository}-{suffix}:{tag or options.tag or 'latest'}"


def images(project: Project, found: Sequence[Workload], options: ExportOptions) -> dict[str, Image]:
    """Return the image of each service, by name."""
    return {workload.name: _image(workload, project, options) for workload in found}


def language(spec: ServiceSpec) -> Language:
    if spec.image is not None or spec.build is not None or spec.dockerfile is not None:
        return Language.GIVEN
    program = None if spec.command is None else PurePosixPath(spec.command[0]).name
    if program in _NODE_PROGRAMS:
        return Language.NODE
    if program == "go" and spec.command is not None and spec.command[1:2] == ("run",):
        return Language.GO
    return Language.PYTHON


def _image(workload: Workload, project: Project, options: ExportOptions) -> Image:
    spec = workload.spec
    kind = language(spec)
    if kind is Language.PYTHON:
        return Image(image_name(project, options), kind, _beside(options, "Dockerfile"), options.context)
    key = f"services.{spec.name}.command"
    argv = (
        program.argv(program.written_command(spec), program.known_variables(workload), key)
        if spec.command
        else None
    )
    if spec.image is not None and spec.build is None and spec.dockerfile is None:
        return Image(spec.image, kind, argv=argv)
    name = spec.image or image_name(project, options, workload.label)
    if kind is Language.GIVEN:
        context = _from_here(project, options, str(spec.build or "")) or options.context
        file = str(spec.dockerfile or "Dockerfile")
        root = spec.build or project.root
        within = None if root is None or spec.dockerfile is None else inside(root, spec.dockerfile)
        return Image(name, kind, file if within is None else within.as_posix(), context, argv)
    if kind is Language.GO:
        argv = program.argv(_go_argv(workload), program.known_variables(workload), key)
    return Image(name, kind, _beside(options, dockerfile_of(workload)), options.context, argv)


def dockerfile_of(workload: Workload) -> str:
    return f"Dockerfile.{workload.label}"


def _beside(options: ExportOptions, file: str) -> str:
    """Return the path of a Dockerfile of ours from the build context."""
    return file if options.folder == "." else f"{options.folder}/{file}"


def _from_here(project: Project, options: ExportOptions, folder: str) -> str | None:
    """Return the path of a folder from the export's."""
    if not folder or project.root is None:
        return folder or None
    within = inside(project.root, type(project.root)(folder))
    return folder if within is None else PurePosixPath(options.context, within.as_posix()).as_posix()


def dockerfile(
    workload: Workload, project: Project, options: ExportOptions, health: Sequence[str] = ()
) -> str:
    """Return the Dockerfile of a service in Node or Go; `health` is the instruction of its health check."""
    spec = workload.spec
    image = image_name(project, options, workload.label)
    head = [
        "# syntax=docker/dockerfile:1",
        f"# {project.name}: the image of {workload.name}.",
        "#",
        f"#   docker build -t {image} -f {dockerfile_of(workload)} {options.context}",
        "",
    ]
    lock = options.lock_files.get(workload.name)
    body = _node(spec, project, lock) if language(spec) is Language.NODE else _go(workload, project, lock)
    *lines, command = body
    return "\n".join([*head, *lines, *health, command]) + "\n"


def _node(spec: ServiceSpec, project: Project, lock: str | None) -> Iterator[str]:
    workdir = _workdir(spec, project)
    yield f"ARG NODE={NODE}"
    yield "FROM node:${NODE}-slim"
    yield "ENV NODE_ENV=production"
    if lock is not None:
        folder, name = PurePosixPath(lock).parent.as_posix(), PurePosixPath(lock).name
        needs_all = spec.command is not None and spec.command[0] not in ("node", "npm", "yarn", "pnpm")
        files = sorted({f"{folder}/package.json", lock} if folder != "." else {"package.json", lock})
        yield f"WORKDIR {_joined('/app', folder)}"
        yield f"COPY {json.dumps([*files, './'])}"
        # Programs of devDependencies (tsx, ts-node) run the service.
        yield f"RUN {'NODE_ENV=development ' if needs_all else ''}{_INSTALL[name]}"
    yield f"WORKDIR {workdir}"
    if project.root is not None:
        yield "COPY . /app"
    yield f"USER {USER}:{USER}"
    argv = program.argv(program.written_command(spec), {}, f"services.{spec.name}.command")
    yield f"CMD {json.dumps(argv)}"


def _go(workload: Workload, project: Project, lock: str | None) -> Iterator[str]:
    flags, _, package = _go_parts(workload.spec)
    yield f"ARG GO={GO}"
    yield f"ARG ALPINE={ALPINE}"
    yield "FROM golang:${GO} AS build"
    if lock is not None:
        folder = PurePosixPath(lock).parent.as_posix()
        files = [
            _joined(folder, name)
            for name in (("go.mod", "go.sum") if lock.endswith("go.sum") else ("go.mod",))
        ]
        yield f"WORKDIR {_joined('/src', folder)}"
        yield f"COPY {json.dumps([*files, './'])}"
        yield "RUN go mod download"
    yield "COPY . /src"
    yield f"WORKDIR {_workdir(workload.spec, project, '/src')}"
    yield f"RUN {shlex.join(['go', 'build', '-trimpath', '-o', '/out/service', *flags, *package])}"
    yield ""
    yield "FROM alpine:${ALPINE}"
    yield f"COPY --from=build /out/service {_binary(workload)}"
    yield f"WORKDIR {_workdir(workload.spec, project)}"
    if project.root is not None:
        yield "COPY . /app"
    yield f"USER {USER}:{USER}"
    yield f"CMD {json.dumps(program.argv(_go_argv(workload), {}, f'services.{workload.name}.command'))}"


def _binary(workload: Workload) -> str:
    return f"/usr/local/bin/{workload.label}"


def _go_argv(workload: Workload) -> tuple[str, ...]:
    return (_binary(workload), *_go_parts(workload.spec)[1])


def _go_parts(spec: ServiceSpec) -> tuple[list[str], list[str], list[str]]:
    """Split `go run [flags] package [arguments]` into flags, arguments and the package or its files."""
    words = list(program.written_command(spec)[2:])
    flags: list[str] = []
    while words and words[0].startswith("-"):
        flags.append(words.pop(0))
    package = [words.pop(0)] if words else ["."]
    while package[0].endswith(".go") and words and words[0].endswith(".go"):
        package.append(words.pop(0))
    return flags, words, package


def _workdir(spec: ServiceSpec, project: Project, base: str = "/app") -> str:
    within = None if spec.cwd is None or project.root is None else inside(project.root, spec.cwd)
    return _joined(base, "." if within is None else within.as_posix())


def _joined(base: str, folder: str) -> str:
    return base if folder == "." else folder if base == "." else f"{base}/{folder}"


def image_list_notices(
    found: Sequence[Workload], known: dict[str, Image], options: ExportOptions
) -> Iterator[Notice]:
    """Say what an image of its own does without."""
    for workload in found:
        image = known[workload.name]
        key = f"services.{workload.name}"
        if image.language in (Language.NODE, Language.GO) and workload.name not in options.lock_files:
            yield Notice(f"{key}.command", "no lock file is beside it: its image installs no dependencies")
        if image.language is Language.NODE and options.lock_files.get(workload.name, "").endswith(
            "package.json"
        ):
            yield Notice(
                f"{key}.command", "no lock file is beside package.json: its image is not reproducible"
            )
