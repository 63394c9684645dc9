"""A project as a graph of services and what connects them; pure."""

from __future__ import annotations

from dataclasses import dataclass

from msctl.model.project import Project
from msctl.model.snapshots import GATEWAY


@dataclass(frozen=True, slots=True)
class Node:
    """A service, or the broker; `detail` is where it answers, or how it runs."""

    name: str
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Edge:
    """`source` reaches or needs `target`; `label` is the route, or the condition waited for."""

    source: str
    target: str
    kind: str
    label: str


@dataclass(frozen=True, slots=True)
class Topology:
    """Everything that `graph` draws, in the order of declaration."""

    project: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def topology(project: Project) -> Topology:
    """Services, the gateway and the broker, with the routes and dependencies between them."""
    nodes = [
        Node(
            spec.name,
            GATEWAY if spec.name == GATEWAY else spec.kind.value,
            spec.url or (f"{spec.host}:{spec.port}" if spec.port else ""),
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


def as_ascii(found: Topology) -> str:
    """A tree of each node with what it leads to."""
    lines = [found.project]
    for number, node in enumerate(found.nodes):
        last = number == len(found.nodes) - 1
        lines.append(f"{'└─' if last else '├─'} {node.name} ({node.kind}) {node.detail}".rstrip())
        edges = [edge for edge in found.edges if edge.source == node.name]
        for place, edge in enumerate(edges):
            branch = "└─" if place == len(edges) - 1 else "├─"
            what = (
                f"{edge.label} → {edge.target}"
                if edge.kind == "route"
                else f"needs {edge.target} {edge.label}"
            )
            lines.append(f"{' ' if last else '│'}  {branch} {what}")
    return "\n".join(lines) + "\n"


def as_mermaid(found: Topology) -> str:
    """A flowchart for anything that renders Mermaid."""
    names = {node.name: f"n{number}" for number, node in enumerate(found.nodes)}
    lines = ["flowchart LR"]
    for node in found.nodes:
        label = f"{node.name}<br/>{node.detail}" if node.detail else node.name
        shape = f'[("{label}")]' if node.kind == "broker" else f'["{label}"]'
        lines.append(f"    {names[node.name]}{shape}")
    for edge in found.edges:
        arrow = "-->" if edge.kind == "route" else "-.->"
        lines.append(f'    {names[edge.source]} {arrow}|"{edge.label}"| {names[edge.target]}')
    return "\n".join(lines) + "\n"
