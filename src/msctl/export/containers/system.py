"""A project as a system of containers: what compose, Kubernetes and Helm have in common. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from msctl.export.broker import BROKER, BrokerPlan, broker_plan
from msctl.export.containers.docker import secret_file_notices
from msctl.export.containers.images import Image, images
from msctl.export.kind import ExportOptions, Notice
from msctl.export.names import labels, renamed
from msctl.export.notices import value_notices
from msctl.export.portable import portable_toml
from msctl.export.workloads import Workload, container_addresses, local_services, workloads
from msctl.model.project import Project


@dataclass(frozen=True, slots=True)
class ContainerSystem:
    """The services of a project, each in a container that its label names.

    `names` are the labels by service, `known` the image of each; `config` is its msctl.toml, and
    `config_notices` what that leaves out.
    """

    project: Project
    options: ExportOptions
    broker: BrokerPlan
    names: Mapping[str, str]
    found: tuple[Workload, ...]
    known: Mapping[str, Image]
    config: str
    config_notices: tuple[Notice, ...]

    @property
    def gateway(self) -> Workload | None:
        return next((workload for workload in self.found if workload.is_gateway), None)

    @property
    def built(self) -> tuple[Image, ...]:
        """The images that are built for it, each once."""
        return tuple({i.name: i for i in self.known.values() if i.dockerfile is not None}.values())

    @property
    def has_msctl(self) -> bool:
        """Whether msctl runs in any of the containers, and so reads the configuration."""
        return any(image.has_msctl for image in self.known.values())

    @property
    def has_programs(self) -> bool:
        """Whether any container runs without msctl."""
        return any(not image.has_msctl for image in self.known.values())

    def notices(self, where: str) -> Iterator[Notice]:
        """Say what is different in containers; `where` tells where the user gives them the secrets."""
        yield from renamed(self.names)
        yield from self.config_notices
        yield from secret_file_notices(self.project)
        yield from value_notices(self.project, self.options, self.found, where)


def container_system(
    project: Project, options: ExportOptions, others: Mapping[str, str] | None = None
) -> ContainerSystem:
    """Return the system; `others` are labels that the target needs itself, and for what.

    Raises ExportError for two services with one label.
    """
    broker = broker_plan(project.broker)
    taken = {**({BROKER: "the broker"} if broker.is_ours else {}), **(others or {})}
    names = labels((spec.name for spec in local_services(project)), taken)
    found = workloads(project, names, container_addresses(project, names))
    known = images(project, found, options)
    return ContainerSystem(project, options, broker, names, found, known, *portable_toml(project))
