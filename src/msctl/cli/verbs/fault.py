"""`fault`: break something of the running stack on purpose, for a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from msctl.cli.options.json_output import json_option
from msctl.cli.output.result import Result
from msctl.errors import UsageError

if TYPE_CHECKING:
    from msctl.control.client import ControlClient
    from msctl.faults.spec import FaultSpec
    from msctl.faults.view import AddedFault

fault = typer.Typer(
    help="Break something of the running stack on purpose, for a time: delays, errors, lost messages.",
    add_completion=False,
)


@fault.callback(no_args_is_help=True)
def group() -> None:
    """Break something of the running stack on purpose, for a time.

    \b
    Requests    delay, abort, slow-body, truncate-body, bandwidth
    Messages    confirm-delay, confirm-lost, nack, message-lost, duplicate, delivery-delay, reorder,
                cut, channel-close, consumer-cancel, memory-alarm, broker-stop
    Processes   kill, pause, slow-start, failing-probe, clock-skew

    A fault ends by itself, after a minute unless --for says otherwise; also at reload and down.
    """


def _option(name: str, help_text: str, metavar: str | None = None) -> typer.models.OptionInfo:
    variable = f"MSCTL_FAULT_ADD_{name.removeprefix('--').upper().replace('-', '_')}"
    option: typer.models.OptionInfo = typer.Option(name, envvar=variable, help=help_text, metavar=metavar)
    return option


def _kinds(incomplete: str) -> list[tuple[str, str]]:
    """Complete the kinds of faults, with what they do."""
    from msctl.faults.kinds import KINDS

    return [(str(kind), info.doc) for kind, info in KINDS.items() if kind.startswith(incomplete)]


@fault.command()
def add(
    ctx: typer.Context,
    kind: Annotated[
        str | None,
        typer.Argument(metavar="[KIND]", help="What to break: delay, abort …", autocompletion=_kinds),
    ] = None,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[TARGET]",
            help="Where: a /route, a service, an instance, a queue, or `broker`; exchange:NAME and the like.",
        ),
    ] = None,
    lasts: Annotated[str | None, _option("--for", "How long; 1m without it.", "DURATION")] = None,
    share: Annotated[
        str | None, _option("--share", "Percent that is hit; 100 without it.", "PERCENT")
    ] = None,
    route: Annotated[str | None, _option("--route", "The target is this route.", "PATH")] = None,
    service: Annotated[str | None, _option("--service", "The target is this service.", "NAME")] = None,
    instance: Annotated[str | None, _option("--instance", "The target is this instance.", "NAME")] = None,
    queue: Annotated[str | None, _option("--queue", "The target is this queue.", "NAME")] = None,
    exchange: Annotated[str | None, _option("--exchange", "The target is this exchange.", "NAME")] = None,
    connection: Annotated[
        str | None, _option("--connection", "The target are connections: their name or user, a glob.", "NAME")
    ] = None,
    header: Annotated[
        list[str] | None,
        _option("--header", "Only requests with this header; several must all match.", "NAME[: VALUE]"),
    ] = None,
    delay: Annotated[str | None, _option("--delay", "How late.", "DURATION")] = None,
    jitter: Annotated[str | None, _option("--jitter", "How much the delay varies.", "DURATION")] = None,
    distribution: Annotated[
        str | None, _option("--distribution", "How: uniform, normal, pareto.", "NAME")
    ] = None,
    status: Annotated[
        str | None, _option("--status", "abort: answer with it; 503 without.", "STATUS")
    ] = None,
    reset: Annotated[bool, _option("--reset", "abort: reset the connection instead.")] = False,
    when: Annotated[
        str | None, _option("--when", "abort: before or after the service has had the request.", "WHEN")
    ] = None,
    size: Annotated[
        str | None, _option("--bytes", "Size of a piece (slow-body), or where the cut is.", "SIZE")
    ] = None,
    rate: Annotated[str | None, _option("--rate", "bandwidth: bytes a second.", "SIZE")] = None,
    frames: Annotated[str | None, _option("--frames", "cut: after so many frames.", "N")] = None,
    every: Annotated[
        str | None, _option("--every", "Repeat what happens once, until the end.", "DURATION")
    ] = None,
    offset: Annotated[str | None, _option("--offset", "clock-skew: +1h or -5m.", "OFFSET")] = None,
    seed: Annotated[str | None, _option("--seed", "Hit the same ones again.", "N")] = None,
    file: Annotated[
        Path | None, _option("--file", "Add the [[faults]] of a scenario file instead.", "PATH")
    ] = None,
    force: Annotated[bool, _option("--force", "Also on a stack that other machines reach.")] = False,
    as_json: Annotated[bool, json_option("fault_add")] = False,
) -> Result:
    """Break something: KIND says what, TARGET where. Prints the fault's id.

    \b
    Examples:
      msctl fault add delay /users --delay 300ms --jitter 100ms --share 50
      msctl fault add abort users --status 500 --header 'x-user: alice' --for 30s
      msctl fault add abort payments --reset --when after
      msctl fault add confirm-lost --queue payments --share 20
      msctl fault add cut broker --frames 100
      msctl fault add pause payments-1 --for 10s
      msctl fault add --file faults.toml
    """
    from msctl.faults.parse import fault_from

    values = {
        "kind": kind, "target": target, "for": lasts, "share": share, "route": route, "service": service,
        "instance": instance, "queue": queue, "exchange": exchange, "connection": connection,
        "header": tuple(header or ()), "delay": delay, "jitter": jitter, "distribution": distribution,
        "status": status, "reset": reset or None, "when": when, "bytes": size, "rate": rate,
        "frames": frames, "every": every, "offset": offset, "seed": seed,
    }  # fmt: skip
    if file is None:
        specs: Sequence[FaultSpec] = [fault_from(values)]
    else:
        if any(value not in (None, ()) for value in values.values()):
            raise UsageError(
                "--file has whole faults: no kind, target or option stands beside it",
                hint="write them into the file",
            )
        specs = _read(file)
    return _added(ctx.obj.client(), specs, force=force, as_json=as_json)


def _read(file: Path) -> Sequence[FaultSpec]:
    from msctl.faults.parse import faults_from_toml

    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8") from error
    except OSError as error:
        raise UsageError(f"cannot read {file}: {(error.strerror or str(error)).lower()}") from error
    return faults_from_toml(text, str(file))


def _added(client: ControlClient, specs: Sequence[FaultSpec], *, force: bool, as_json: bool) -> Result:
    from msctl.cli.output.faults import added_lines

    added: tuple[AddedFault, ...] = client.add_faults(specs, force=force)
    notes = tuple(f"note: {note}" for note in dict.fromkeys(n for one in added for n in one.notes))
    return Result("faults", added, lambda: added_lines(added), problems=notes, as_json=as_json)


@fault.command(name="list")
def list_faults(ctx: typer.Context, as_json: Annotated[bool, json_option("fault_list")] = False) -> Result:
    """List the active faults, with what they struck and when they end."""
    from msctl.cli.output.faults import fault_lines

    found = ctx.obj.client().faults()
    nothing = ["no fault is active"]
    return Result("faults", found, lambda: fault_lines(found) if found else nothing, as_json=as_json)


@fault.command()
def clear(
    ctx: typer.Context,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Which; all without one.")
    ] = None,
    as_json: Annotated[bool, json_option("fault_clear")] = False,
) -> Result:
    """End faults before their time.

    \b
    Examples:
      msctl fault clear        all of them
      msctl fault clear f2
    """
    from msctl.cli.output.faults import ended_lines

    ended = ctx.obj.client().clear_faults(ids or [])
    return Result("faults", ended, lambda: ended_lines(ended), as_json=as_json)
