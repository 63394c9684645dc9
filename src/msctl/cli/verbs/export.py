"""`export`: writes the files by which other tools run the project."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from msctl.cli.session import Settings
from msctl.errors import MsctlError, UsageError

if TYPE_CHECKING:
    from msctl.export import Exported, File, Options


def export(
    ctx: typer.Context,
    kind: Annotated[str | None, typer.Argument(help="What to write; --list shows what there is.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", envvar="MSCTL_EXPORT_OUT", metavar="DIR", help="Where the files go."),
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="Show the kinds, and exit.")] = False,
    stdout: Annotated[
        bool, typer.Option("--stdout", envvar="MSCTL_EXPORT_STDOUT", help="Write to standard output instead.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", envvar="MSCTL_EXPORT_FORCE", help="Replace files that are there and differ."),
    ] = False,
    image: Annotated[
        str | None,
        typer.Option(envvar="MSCTL_EXPORT_IMAGE", help="docker, compose, kubernetes, CI: the image's name."),
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(envvar="MSCTL_EXPORT_NAMESPACE", help="kubernetes, CI: the namespace.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(envvar="MSCTL_EXPORT_HOST", help="kubernetes: the host name of the way in."),
    ] = None,
    gateway_api: Annotated[
        str | None,
        typer.Option(
            envvar="MSCTL_EXPORT_GATEWAY_API",
            metavar="GATEWAY",
            help="kubernetes: an HTTPRoute at this Gateway, not an Ingress.",
        ),
    ] = None,
    monitoring: Annotated[
        bool, typer.Option(envvar="MSCTL_EXPORT_MONITORING", help="compose: with Prometheus and Grafana.")
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
            envvar="MSCTL_EXPORT_EXECUTABLE", metavar="PATH", help="systemd: msctl on that machine."
        ),
    ] = None,
    directory: Annotated[
        str | None,
        typer.Option(
            envvar="MSCTL_EXPORT_DIRECTORY", metavar="PATH", help="systemd: the project on that machine."
        ),
    ] = None,
) -> None:
    """Write the files by which other tools run the project: containers, Kubernetes, proxies, monitoring.

    Files that are there and differ are kept, and nothing is written then, unless --force is given.
    What the target cannot express is said on standard error, with the key of msctl.toml.
    """
    from msctl.export import Options, find
    from msctl.export import export as render

    if show_list:
        _print_kinds()
        return
    if kind is None:
        raise UsageError("export what?", hint="msctl export --list shows the kinds")
    found = find(kind)
    settings: Settings = ctx.obj
    project = settings.load().project
    folder = Path(found.folder) if out is None else out
    options = Options(
        image=image,
        namespace=namespace,
        host=host,
        gateway_api=gateway_api,
        monitoring=monitoring,
        listen=listen,
        targets=tuple(target or ()),
        executable=executable,
        directory=directory,
    )
    options = _placed(options, folder, project.root)
    exported = render(kind, project, options)
    if stdout:
        _print_files(exported)
    else:
        _write(folder, exported, force=force)
    for notice in exported.notices:
        sys.stderr.write(f"warning: {notice.key}: {notice.text}\n")


def _placed(options: Options, folder: Path, root: Path | None) -> Options:
    """The options with the ways between the export's folder and the project's."""
    from dataclasses import replace

    if root is None:
        return options
    here, there = folder.absolute(), root.absolute()
    return replace(
        options,
        context=Path(os.path.relpath(there, here)).as_posix(),
        folder=Path(os.path.relpath(here, there)).as_posix(),
    )


def _print_kinds() -> None:
    from msctl.export import KINDS

    width = max(len(kind.name) for kind in KINDS)
    for kind in KINDS:
        where = "" if kind.folder == "." else f" (into {kind.folder}/)"
        sys.stdout.write(f"{kind.name:{width}}  {kind.summary}{where}\n")


def _print_files(exported: Exported) -> None:
    """One file as it is; several with a line before each, which is a comment in most of them."""
    if len(exported.files) == 1:
        sys.stdout.write(exported.files[0].text)
        return
    for file in exported.files:
        sys.stdout.write(f"# --- {file.path}\n{file.text}")


def _write(folder: Path, exported: Exported, *, force: bool) -> None:
    """All files or none: what would be lost is found before anything is written."""
    states = {file.path: _state(folder / file.path, file) for file in exported.files}
    changed = [path for path, state in states.items() if state == "differs"]
    if changed and not force:
        raise UsageError(
            f"{', '.join(str(folder / path) for path in changed)}: there already, with other content",
            hint="nothing was written; --force replaces them, -o DIR writes elsewhere, --stdout shows",
        )
    for file in exported.files:
        if states[file.path] != "same":
            _replace(folder / file.path, file)
    for path, state in states.items():
        word = {"same": "unchanged", "differs": "replaced", "missing": "written"}[state]
        sys.stdout.write(f"{word:9} {folder / path}\n")


def _state(path: Path, file: File) -> str:
    try:
        return "same" if path.read_bytes() == file.text.encode() else "differs"
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        raise _unwritable(path, error) from error


def _replace(path: Path, file: File) -> None:
    """Write beside it, then rename: no reader ever sees half a file, and no failure leaves one."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(file.text.encode())
        Path(temporary).chmod(file.mode)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            with suppress(OSError):
                Path(temporary).unlink()
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> MsctlError:
    reason = (error.strerror or str(error)).lower()
    return MsctlError(f"{path} cannot be written: {reason}", hint="-o DIR writes elsewhere")
