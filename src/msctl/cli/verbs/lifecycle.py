"""`start`, `stop` and `restart`: single services of a running stack."""

from __future__ import annotations

from typing import Annotated

import typer

from msctl.cli.options.completion import ServiceNames
from msctl.cli.output.render import print_failures, print_states
from msctl.cli.session import Settings
from msctl.errors import ExitCode, UsageError
from msctl.model.snapshots import Snapshot

NoDeps = Annotated[bool, typer.Option("--no-deps", help="Leave what they depend on alone.")]


def start(ctx: typer.Context, services: ServiceNames = None, no_deps: NoDeps = False) -> None:
    """Start services and what they depend on; returns when they are ready."""
    client = ctx.obj.client()
    _report(ctx.obj, client.start(services or [], deps=not no_deps), services)


def stop(ctx: typer.Context, services: ServiceNames = None) -> None:
    """Stop services; the rest of the stack runs on, and the gateway answers 503 for them."""
    print_states(ctx.obj.client().stop(services or []), services or [])


def restart(ctx: typer.Context, services: ServiceNames = None, no_deps: NoDeps = False) -> None:
    """Stop services and start them again; returns when they are ready."""
    client = ctx.obj.client()
    _report(ctx.obj, client.restart(services or [], deps=not no_deps), services)


def scale(
    ctx: typer.Context,
    counts: Annotated[list[str], typer.Argument(metavar="SERVICE=N…", help="How many instances of each.")],
) -> None:
    """Run N instances of a service that has processes of its own; the gateway spreads over them."""
    wanted: dict[str, int] = {}
    for text in counts:
        name, _, number = text.partition("=")
        if not name or not number.isdecimal():
            raise UsageError(f"{text!r} does not say how many instances of what", hint="write SERVICE=N")
        wanted[name] = int(number)
    _report(ctx.obj, ctx.obj.client().scale(wanted), list(wanted))


def _report(settings: Settings, snapshot: Snapshot, services: list[str] | None) -> None:
    print_states(snapshot, services or [])
    if print_failures(snapshot, settings.client(), services or []):
        raise typer.Exit(int(ExitCode.FAILED))
