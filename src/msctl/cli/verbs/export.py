"""`export`: files with which other tools run the project."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from msctl.cli.options.global_options import GlobalOptions
from msctl.cli.output.result import Result
from msctl.cli.write_files import unwritable, write_files
from msctl.errors import UsageError

if TYPE_CHECKING:
    from msctl.export import Exported, ExportOptions, File
    from msctl.model.project import Project


def export(
    ctx: typer.Context,
    kind: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help="What to write; --list shows the kinds.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", envvar="MSCTL_EXPORT_OUT", metavar="DIR", help="The target folder."),
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="List the kinds and exit.")] = False,
    stdout: Annotated[
        bool, typer.Option("--stdout", envvar="MSCTL_EXPORT_STDOUT", help="Write to standard output.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", envvar="MSCTL_EXPORT_FORCE", help="Replace existing files that differ."),
    ] = False,
    image: Annotated[
        str | None,
        typer.Option(
            envvar="MSCTL_EXPORT_IMAGE",
            metavar="NAME",
            help="docker, compose, kubernetes, helm, CI: image name.",
        ),
    ] = None,
    registry: Annotated[
        str | None,
        typer.Option(
            envvar="MSCTL_EXPORT_REGISTRY",
            metavar="NAME",
            help="The same: where the images are pushed, before each name.",
        ),
    ] = None,
    tag: Annotated[
        str | None,
        typer.Option(
            envvar="MSCTL_EXPORT_TAG",
            metavar="TAG",
            help="docker, compose, kubernetes, helm: the images' tag.",
        ),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(envvar="MSCTL_EXPORT_NAMESPACE", metavar="NAME", help="kubernetes, CI: namespace."),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            envvar="MSCTL_EXPORT_HOST", metavar="NAME", help="kubernetes, helm: host of the Ingress."
        ),
    ] = None,
    gateway_api: Annotated[
        str | None,
        typer.Option(
            envvar="MSCTL_EXPORT_GATEWAY_API",
            metavar="GATEWAY",
            help="kubernetes, helm: an HTTPRoute of this Gateway ([NAMESPACE/]NAME) instead of an Ingress.",
        ),
    ] = None,
    native_routes: Annotated[
        bool,
        typer.Option(
            "--native-routes",
            envvar="MSCTL_EXPORT_NATIVE_ROUTES",
            help="kubernetes, helm: HTTPRoutes to the services themselves where they can say what routes do.",
        ),
    ] = False,
    ingress_class: Annotated[
        str | None,
        typer.Option(
            envvar="MSCTL_EXPORT_INGRESS_CLASS",
            metavar="NAME",
            help="kubernetes, helm: class of the Ingress.",
        ),
    ] = None,
    tls_secret: Annotated[
        str | None,
        typer.Option(
            envvar="MSCTL_EXPORT_TLS_SECRET",
            metavar="NAME",
            help="kubernetes, helm: Secret with the Ingress' certificate.",
        ),
    ] = None,
    monitoring: Annotated[
        bool, typer.Option(envvar="MSCTL_EXPORT_MONITORING", help="compose: add Prometheus and Grafana.")
    ] = False,
    listen: Annotated[
        int | None,
        typer.Option(envvar="MSCTL_EXPORT_LISTEN", metavar="PORT", min=1, max=65535, help="nginx: its port."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(envvar="MSCTL_EXPORT_TARGET", metavar="HOST:PORT", help="prometheus: what to scrape."),
    ] = None,
    executable: Annotated[
        str | None,
        typer.Option(
            envvar="MSCTL_EXPORT_EXECUTABLE", metavar="PATH", help="systemd: msctl on the target machine."
        ),
    ] = None,
    directory: Annotated[
        str | None,
        typer.Option(
            envvar="MSCTL_EXPORT_DIRECTORY", metavar="PATH", help="systemd: the project's folder there."
        ),
    ] = None,
) -> Result:
    """Write files for containers, Kubernetes, proxies or monitoring.

    If a file exists with other content, nothing is written unless --force is given. Keys of msctl.toml
    that the target cannot express are listed on standard error.

    \b
    Examples:
      msctl export --list
      msctl export compose --monitoring
      msctl export kubernetes -o deploy --registry registry.example.com --tag 1.0
    """
    from msctl.cli.lock_files import lock_files
    from msctl.export import KINDS, ExportOptions, find
    from msctl.export import export as render

    if show_list:
        return Result("kinds", [kind.name for kind in KINDS], _kind_lines)
    if kind is None:
        raise UsageError("missing argument KIND", hint="list the kinds with: msctl export --list")
    found = find(kind)
    options: GlobalOptions = ctx.obj
    resolved = options.load()
    project = resolved.project
    folder = Path(found.folder) if out is None else out
    chosen = ExportOptions(
        image=image,
        registry=registry,
        tag=tag,
        namespace=namespace,
        host=host,
        gateway_api=gateway_api,
        native_routes=native_routes,
        ingress_class=ingress_class,
        tls_secret=tls_secret,
        monitoring=monitoring,
        listen=listen,
        targets=tuple(target or ()),
        executable=executable,
        directory=directory,
        sources=resolved.sources,
        lock_files=lock_files(project),
    )
    if found.name == "rabbitmq":
        chosen = _with_definitions(chosen, project, options)
    exported = render(kind, project, _with_paths(chosen, folder, project.root))
    notices = tuple(f"warning: {notice.key}: {notice.text}" for notice in exported.notices)
    paths = [file.path for file in exported.files]
    if stdout:
        return Result("export", paths, lambda: _file_lines(exported), problems=notices)
    states = _write(folder, exported, force=force)
    return Result(
        "export",
        paths,
        lambda: [f"{state:9} {folder / path}" for path, state in states.items()],
        problems=notices,
    )


def _with_paths(options: ExportOptions, folder: Path, root: Path | None) -> ExportOptions:
    """Add the relative paths between the export's folder and the project's."""
    from dataclasses import replace

    if root is None:
        return options
    here, there = folder.absolute(), root.absolute()
    return replace(
        options,
        context=Path(os.path.relpath(there, here)).as_posix(),
        folder=Path(os.path.relpath(here, there)).as_posix(),
    )


def _with_definitions(chosen: ExportOptions, project: Project, options: GlobalOptions) -> ExportOptions:
    """Add the broker's definitions, declared and running."""
    from dataclasses import replace

    from msctl.cli.definitions import declared_definitions, running_definitions

    return replace(
        chosen, definitions=declared_definitions(project), running_definitions=running_definitions(options)
    )


def _kind_lines() -> Iterator[str]:
    from msctl.export import KINDS

    width = max(len(kind.name) for kind in KINDS)
    for kind in KINDS:
        where = "" if kind.folder == "." else f" (into {kind.folder}/)"
        yield f"{kind.name:{width}}  {kind.summary}{where}"


def _file_lines(exported: Exported) -> Iterator[str]:
    """Yield one file as it is, several each after a comment with its path."""
    for file in exported.files:
        if len(exported.files) > 1:
            yield f"# --- {file.path}"
        yield from file.text.removesuffix("\n").split("\n")


def _write(folder: Path, exported: Exported, *, force: bool) -> dict[str, str]:
    """Write all files or none, and return what was done with each."""
    states = {file.path: _state(folder / file.path, file) for file in exported.files}
    changed = [str(folder / path) for path, state in states.items() if state == "replaced"]
    if changed and not force:
        raise UsageError(
            f"already exists with other content: {', '.join(changed)}",
            hint="nothing was written; use --force to replace, -o DIR for another folder, or --stdout",
        )
    new = [file for file in exported.files if states[file.path] != "unchanged"]
    write_files(
        {folder / file.path: file.text.encode() for file in new},
        {folder / file.path: file.mode for file in new},
    )
    return states


def _state(path: Path, file: File) -> str:
    try:
        return "unchanged" if path.read_bytes() == file.text.encode() else "replaced"
    except FileNotFoundError:
        return "written"
    except OSError as error:
        raise unwritable(path, error) from error
