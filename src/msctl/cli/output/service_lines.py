"""Services and their events as lines of text."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msctl.cli.output.terminal import STATE_COLOURS, colours, paint, plain
from msctl.model.snapshots import GATEWAY, Kind, ServiceSnapshot, Snapshot, State

if TYPE_CHECKING:
    from pathlib import Path

    from msctl.model.events import Event


def event_line(event: Event) -> str:
    """Show `12:30:01 users-1 ready`, with the reason if there is one."""
    when = time.strftime("%H:%M:%S", time.localtime(event.time))
    reason = f": {plain(event.reason)}" if event.reason else ""
    return f"{when} {event.instance} {_state(event.state, coloured=colours(sys.stdout)).rstrip()}{reason}"


def state_lines(services: Sequence[ServiceSnapshot]) -> Iterator[str]:
    """Show the state of each service."""
    for service in services:
        elsewhere = any(one.origin for one in service.instances)
        why = f" ({plain(service.reason)})" if elsewhere and service.reason else ""
        yield f"{service.name}: {_state(service.state, coloured=colours(sys.stdout)).rstrip()}{why}"


def started_lines(snapshot: Snapshot, link: str | None, *, coloured: bool) -> Iterator[str]:
    """Show where each service, the broker and the dashboard are reached; `link` signs a browser in."""
    others = ("broker",) if snapshot.registry is None else ("broker", "registry")
    width = max(map(len, (*others, *(service.name for service in snapshot.services))))
    for service in snapshot.services:
        where = ", ".join(service.urls) or _routes(service, snapshot)
        if service.kind is Kind.REMOTE and service.reason:
            where += f": {plain(service.reason)}"
        yield f"{service.name:<{width}}  {_state(service.state, coloured=coloured):<9}  {where}".rstrip()
    broker = snapshot.broker
    reason = f": {plain(broker.reason)}" if broker.reason else ""
    state = _state(broker.state, coloured=coloured)
    yield f"{'broker':<{width}}  {state:<9}  {broker.url} ({broker.mode.value}){reason}"
    if (registry := snapshot.registry) is not None:
        reason = f": {plain(registry.reason)}" if registry.reason else ""
        state = _state(registry.state, coloured=coloured)
        yield f"{'registry':<{width}}  {state:<9}  {registry.url} (namespace {registry.namespace}){reason}"
    if snapshot.dashboard is not None:
        yield f"{'page':<{width}}  {'':<9}  {link or snapshot.dashboard}"


def _routes(service: ServiceSnapshot, snapshot: Snapshot) -> str:
    """The routes of a service that is reached at the gateway alone, and whether it is."""
    routes = ", ".join(service.routes)
    if not routes or service.state is not State.READY:
        return routes
    gateway = next((one for one in snapshot.services if one.name == GATEWAY), None)
    if gateway is None:
        return f"not reachable: no gateway serves {routes}"
    if gateway.state is not State.READY:
        return f"not reachable: the gateway is {gateway.state.value}; start it with: msctl start gateway"
    return routes


def trust_lines(authority: Path, snapshot: Snapshot) -> Iterator[str]:
    """Show how a client trusts a gateway with a development certificate."""
    from shlex import quote

    for service in snapshot.services:
        for url in service.urls if service.name == GATEWAY else ():
            yield f"trust the development certificate: curl --cacert {quote(str(authority))} {url}/"


def _state(state: State, *, coloured: bool) -> str:
    text = f"{state.value:<9}"
    return paint(text, STATE_COLOURS[state]) if coloured else text.rstrip()
