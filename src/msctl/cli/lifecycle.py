"""`start`, `stop` and `restart`: single services of a running stack."""

from __future__ import annotations

from typing import Annotated

import typer

from msctl.cli.render import print_failures, print_states
from msctl.cli.session import Settings
from msctl.errors import ExitCode
from msctl.model import Snapshot

Names = Annotated[list[str] | None, typer.Argument(help="Names or globs. Default: all.")]
NoDeps = Annotated[bool, typer.Option("--no-deps", help="Leave what they depend on alone.")]


def start(ctx: typer.Context, services: Names = None, no_deps: NoDeps = False) -> None:
    """Start services and what they depend on; returns when they are ready."""
    client = ctx.obj.client()
    _report(ctx.obj, client.start(services or [], deps=not no_deps), services)


def stop(ctx: typer.Context, services: Names = None) -> None:
    """Stop services; the rest of the stack runs on, and the gateway answers 503 for them."""
    print_states(ctx.obj.client().stop(services or []), services or [])


def restart(ctx: typer.Context, services: Names = None, no_deps: NoDeps = False) -> None:
    """Stop services and start them again; returns when they are ready."""
    client = ctx.obj.client()
    _report(ctx.obj, client.restart(services or [], deps=not no_deps), services)


def _report(settings: Settings, snapshot: Snapshot, services: list[str] | None) -> None:
    print_states(snapshot, services or [])
    if print_failures(snapshot, settings.client(), services or []):
        raise typer.Exit(int(ExitCode.FAILED))
