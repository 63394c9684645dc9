"""`route`: how the gateway would route a request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from msctl.cli.options.global_options import GlobalOptions
from msctl.cli.options.json_output import json_option
from msctl.cli.output.result import Result
from msctl.cli.output.terminal import plain
from msctl.errors import UsageError

if TYPE_CHECKING:
    from msctl.model.routing import RouteExplanation


def route(
    ctx: typer.Context,
    request: Annotated[
        list[str],
        typer.Argument(
            metavar="[METHOD] PATH",
            help="The method, GET if it is left out; the path, with its query if any.",
        ),
    ],
    header: Annotated[
        list[str] | None,
        typer.Option(
            "--header",
            "-H",
            envvar="MSCTL_ROUTE_HEADER",
            metavar="NAME=VALUE",
            help="A request header; repeatable.",
        ),
    ] = None,
    as_json: Annotated[bool, json_option("route")] = False,
) -> Result:
    """Explain how the gateway routes a request, without sending it.

    \b
    Example:
      msctl route /users/1
      msctl route POST /users -H Origin=https://shop.example
    """
    method, target = _request(request)
    headers: dict[str, str] = {}
    for text in header or []:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"--header: {text!r} is not of the form NAME=VALUE")
        headers[name] = value
    options: GlobalOptions = ctx.obj
    found = options.client().explain(method.upper(), target, headers)
    return Result("route", found, lambda: _lines(found), as_json=as_json)


def _request(words: list[str]) -> tuple[str, str]:
    """Return method and target."""
    first = words[0]
    if len(words) == 1 and not first.startswith(("/", "http://", "https://", "*")):
        raise UsageError("missing argument PATH", hint="see: msctl route --help")
    if len(words) > 2:
        raise UsageError(f"unexpected argument {words[2]}", hint="see: msctl route --help")
    return ("GET", first) if len(words) == 1 else (first, words[1])


def _lines(found: RouteExplanation) -> Iterator[str]:
    yield from map(plain, found.steps)
    if found.status is not None:
        yield f"→ {found.status} from the gateway"
    else:
        yield plain(f"→ {found.instance or found.service} {found.upstream_path}")
