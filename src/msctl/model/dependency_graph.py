"""The dependency graph of a project's services: cycles, closure and start order. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msctl.errors import ConfigError
from msctl.hints import did_you_mean
from msctl.model.service_spec import ServiceSpec


def check(services: Sequence[ServiceSpec], source: str = "msctl.toml") -> None:
    """Raise ConfigError for a dependency on an unknown service and for a cycle."""
    specs = {spec.name: spec for spec in services}
    for spec in services:
        for dependency in spec.depends_on:
            if dependency.service not in specs:
                raise ConfigError(
                    f"{source}: service {spec.name!r} depends on {dependency.service!r}, "
                    "which the project does not have",
                    hint=did_you_mean(dependency.service, specs),
                )
    if cycle := find_cycle(services):
        raise ConfigError(
            f"{source}: services depend on each other in a cycle: {' → '.join(cycle)}",
            hint="remove one of them from a depends_on",
        )


def find_cycle(services: Sequence[ServiceSpec]) -> list[str]:
    """The first cycle, its first name repeated at the end; empty if there is none."""
    needs = {spec.name: [d.service for d in spec.depends_on] for spec in services}
    done: set[str] = set()
    for root in needs:
        # An explicit stack: a chain of thousands must not end in a RecursionError.
        path: list[str] = []
        on_path: set[str] = set()
        todo: list[tuple[str, bool]] = [(root, False)]
        while todo:
            name, leaving = todo.pop()
            if leaving:
                path.pop()
                on_path.discard(name)
                done.add(name)
                continue
            if name in on_path:
                return [*path[path.index(name) :], name]
            if name in done:
                continue
            path.append(name)
            on_path.add(name)
            todo.append((name, True))
            todo.extend((need, False) for need in reversed(needs.get(name, ())))
    return []


def closure(services: Sequence[ServiceSpec], names: Iterable[str]) -> list[str]:
    """`names` and all their dependencies, transitively, in the order of declaration."""
    needs = {spec.name: [d.service for d in spec.depends_on] for spec in services}
    wanted: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in wanted:
            wanted.add(name)
            todo.extend(needs.get(name, ()))
    return [spec.name for spec in services if spec.name in wanted]


def waves(services: Sequence[ServiceSpec], names: Iterable[str]) -> list[list[str]]:
    """`names` in groups that start one after the other; the services of a group start side by side.

    A dependency that is not among `names` does not count. The graph must have no cycle (see `check`).
    """
    left = set(names)
    needs = {spec.name: {d.service for d in spec.depends_on} for spec in services}
    order: list[list[str]] = []
    while left:
        wave = [spec.name for spec in services if spec.name in left and not needs[spec.name] & left]
        if not wave:
            raise ValueError(f"a cycle among {sorted(left)}")
        order.append(wave)
        left.difference_update(wave)
    return order


def dependents(services: Sequence[ServiceSpec]) -> Mapping[str, tuple[str, ...]]:
    """For each service, the services that depend on it directly."""
    return {
        spec.name: tuple(
            other.name for other in services if any(d.service == spec.name for d in other.depends_on)
        )
        for spec in services
    }
