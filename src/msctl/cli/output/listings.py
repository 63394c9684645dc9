"""The tables of `ls`, `doctor`, `config --explain` and `routes`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msctl.cli.output.table import Cell, Column, table
from msctl.cli.output.terminal import GREEN, RED, YELLOW, plain
from msctl.model.snapshots import State, url_of

if TYPE_CHECKING:
    from msctl.cli.output.check_result import CheckResult
    from msctl.config.reading.load import Resolved
    from msctl.config.render import Explained
    from msctl.control.record import StackRecord
    from msctl.model.route_spec import RouteSpec
    from msctl.model.snapshots import ServiceSnapshot

_STATUS_COLOURS = {"ok": GREEN, "note": YELLOW, "fail": RED}


def stack_lines(records: Sequence[StackRecord]) -> Iterator[str]:
    """Show each stack with its process, addresses and folder."""
    return table(
        ("PROJECT", Column("PID", 2), Column("ADDRESSES", 1), Column("FOLDER", below=True)),
        (
            (
                record.project,
                str(record.pid),
                " ".join(map(url_of, record.addresses)) or "-",
                record.root or "-",
            )
            for record in records
        ),
    )


def unknown_variable_lines(resolved: Resolved) -> Iterator[str]:
    """Warn of variables that look like a key's and set nothing."""
    for name, meant in resolved.unknown_variables:
        yield f"warning: {plain(name)} sets no key; did you mean {plain(meant)}?"


def check_lines(results: Sequence[CheckResult]) -> Iterator[str]:
    """Show each check with its result, and the advice below it."""
    rows: list[Sequence[Cell]] = []
    for result in results:
        verdict = result.verdict.value
        rows.append((result.check, (verdict, _STATUS_COLOURS[verdict]), result.detail))
        if result.advice:
            rows.append(("", "", f"  {result.advice}"))
    return table(("CHECK", "RESULT", Column("DETAIL", below=True)), rows)


def explained_lines(keys: Sequence[Explained]) -> Iterator[str]:
    """Show each key with its value and its origin."""
    return table(
        ("KEY", "FROM", Column("VALUE", below=True)),
        ((one.key, str(one.source), str(one.value)) for one in keys),
    )


def _destination(spec: RouteSpec) -> str:
    if spec.redirect is not None:
        return "redirect"
    if spec.compose is not None:
        return "compose"
    if spec.static is not None:
        return f"files of {spec.static.root}"
    if not spec.weights and spec.canary is None:
        return spec.service
    names = ", ".join(f"{name} ({weight})" for name, weight in spec.weights.items()) or spec.service
    return names if spec.canary is None else f"{names}, {spec.canary.service} (canary)"


def _instances(spec: RouteSpec, services: Sequence[ServiceSnapshot]) -> str:
    """The ready instances of the route's services, those of other machines with where they were found."""
    names = {spec.service, *spec.other_services}
    found = [
        f"{one.name} ({one.origin})" if one.origin else one.name
        for service in services
        for one in service.instances
        if service.name in names and one.state is State.READY
    ]
    return ", ".join(found) or "-"


def route_lines(routes: Sequence[RouteSpec], services: Sequence[ServiceSnapshot] = ()) -> Iterator[str]:
    """Show each route with what it matches and its destination.

    Where an instance was found on another machine, all are shown, and where each is from.
    """
    found = any(one.origin for service in services for one in service.instances)
    return table(
        (
            "PATH",
            Column("MATCH", 1),
            Column("METHODS", 2),
            Column("HOSTS", 3),
            Column("HEADERS", 4),
            "TO",
            *([Column("INSTANCES", below=True)] if found else []),
        ),
        (
            (
                spec.path,
                "exact" if spec.exact else "prefix",
                ",".join(spec.methods) or "*",
                ",".join(spec.hosts) or "*",
                ",".join(f"{name}={value}" for name, value in spec.headers.items()) or "-",
                _destination(spec),
                *([_instances(spec, services)] if found else []),
            )
            for spec in routes
        ),
    )
