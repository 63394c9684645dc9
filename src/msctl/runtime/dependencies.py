"""The variables about the dependencies of a service that runs alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from msctl.model.project import Project
from msctl.model.service_spec import ServiceSpec
from msctl.model.variables import about, url_variable


def dependency_variables(project: Project, spec: ServiceSpec, env: Mapping[str, str]) -> Mapping[str, str]:
    """$<NAME>_URL, $<NAME>_HOST and $<NAME>_PORT of each dependency, from `env` or from its `url`."""
    found: dict[str, str] = {}
    for dependency in spec.depends_on:
        other = project.service(dependency.service)
        url = env.get(url_variable(dependency.service))
        if not url and other is not None and other.url is not None:
            url = other.urls[0]
        if url:
            found |= about(dependency.service, url)
    return found
