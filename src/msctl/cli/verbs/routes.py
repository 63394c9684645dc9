"""`routes` and `route`: what the gateway sends where, and why."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from msctl.cli.output.documents import write_document
from msctl.cli.session import Settings
from msctl.errors import UsageError


def routes(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", envvar="MSCTL_ROUTES_JSON", help="As JSON.")] = False,
) -> None:
    """List the gateway's routes in the order in which they are tried."""
    settings: Settings = ctx.obj
    found = settings.client().routes()
    if as_json:
        write_document("routes", found)
        return
    from msctl.cli.output.tables import show, table

    rows = [
        (
            spec.path,
            "exact" if spec.exact else "prefix",
            ",".join(spec.methods) or "*",
            ",".join(spec.hosts) or "*",
            ",".join(f"{name}={value}" for name, value in spec.headers.items()) or "-",
            spec.service or ("redirect" if spec.redirect else "compose"),
        )
        for spec in found
    ]
    show(table(("PATH", "MATCH", "METHODS", "HOSTS", "HEADERS", "TO"), rows))


def route(
    ctx: typer.Context,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="Such as GET.")],
    target: Annotated[str, typer.Argument(metavar="PATH", help="The path, with its query if it has one.")],
    header: Annotated[
        list[str] | None,
        typer.Option(
            "--header", "-H", envvar="MSCTL_ROUTE_HEADER", metavar="K=V", help="A header; repeatable."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", envvar="MSCTL_ROUTE_JSON", help="As JSON.")] = False,
) -> None:
    """Explain which route, service and instance a request would take now, without sending it."""
    headers: dict[str, str] = {}
    for text in header or []:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"--header: {text!r} is not of the form NAME=VALUE")
        headers[name] = value
    settings: Settings = ctx.obj
    found = settings.client().explain(method.upper(), target, headers)
    if as_json:
        write_document("route", found)
        return
    sys.stdout.writelines(f"{step}\n" for step in found.steps)
    if found.status is not None:
        sys.stdout.write(f"→ {found.status} from the gateway itself\n")
    else:
        sys.stdout.write(f"→ {found.instance or found.service} {found.upstream_path}\n")
