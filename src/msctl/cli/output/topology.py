"""A project as a graph of services, routes and dependencies. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from msctl.cli.output.terminal import plain
from msctl.model.project import Project
from msctl.model.snapshots import GATEWAY


@dataclass(frozen=True, slots=True)
class Node:
    """A service or the broker; `detail` is its address or mode."""

    name: str
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Edge:
    """`source` routes to `target` or depends on it; `label` is the path or the condition."""

    source: str
    target: str
    kind: str
    label: str


@dataclass(frozen=True, slots=True)
class Topology:
    """Nodes and edges in the order of declaration."""

    project: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def topology(project: Project) -> Topology:
    """Return the services, the gateway and the broker, with routes and dependencies."""
    nodes = [
        Node(
            spec.name,
            GATEWAY if spec.name == GATEWAY else spec.kind.value,
            spec.url or (f"{spec.host}:{spec.port}" if spec.port else "discovered" * spec.only_discovered),
        )
        for spec in project.services
    ]
    nodes.append(Node("broker", "broker", project.broker.mode.value))
    edges = [
        Edge(GATEWAY, spec.name, "route", route.path)
        for spec in project.services
        for route in spec.routes
        if project.gateway is not None
    ]
    edges += [
        Edge(spec.name, dependency.service, "depends_on", dependency.condition.value)
        for spec in project.services
        for dependency in spec.depends_on
    ]
    return Topology(project.name, tuple(nodes), tuple(edges))


def as_ascii(found: Topology) -> Iterator[str]:
    """Draw a tree: each node with its outgoing edges."""
    yield plain(found.project)
    for number, node in enumerate(found.nodes):
        last = number == len(found.nodes) - 1
        yield plain(f"{'└─' if last else '├─'} {node.name} ({node.kind}) {node.detail}".rstrip())
        edges = [edge for edge in found.edges if edge.source == node.name]
        for place, edge in enumerate(edges):
            branch = "└─" if place == len(edges) - 1 else "├─"
            text = (
                f"{edge.label} → {edge.target}"
                if edge.kind == "route"
                else f"needs {edge.target} {edge.label}"
            )
            yield plain(f"{' ' if last else '│'}  {branch} {text}")


def as_mermaid(found: Topology) -> Iterator[str]:
    """Draw a Mermaid flowchart."""
    names = {node.name: f"n{number}" for number, node in enumerate(found.nodes)}
    yield "flowchart LR"
    for node in found.nodes:
        label = _quoted(node.name) + (f"<br/>{_quoted(node.detail)}" if node.detail else "")
        shape = f'[("{label}")]' if node.kind == "broker" else f'["{label}"]'
        yield f"    {names[node.name]}{shape}"
    for edge in found.edges:
        arrow = "-->" if edge.kind == "route" else "-.->"
        yield f'    {names[edge.source]} {arrow}|"{_quoted(edge.label)}"| {names[edge.target]}'


def _quoted(text: str) -> str:
    """Escape text for a Mermaid label: entities for what ends the label or starts markup."""
    for character, entity in (("&", "&amp;"), ('"', "&quot;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, entity)
    return plain(text)
