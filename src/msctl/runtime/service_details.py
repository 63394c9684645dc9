"""What the page shows of a service's configuration and environment, without secrets. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from msctl.config.reading.interpolate import names_in
from msctl.config.render import redacted, toml_value, without_secrets
from msctl.config.schema.service_keys import SERVICE
from msctl.config.secret_variables import is_secret, secret_variables
from msctl.model.project import Project
from msctl.model.service_spec import ServiceSpec
from msctl.model.views import ServiceDetails, ServiceVariables, Variable
from msctl.secret import MASK


def service_details(project: Project, spec: ServiceSpec, variables: ServiceVariables) -> ServiceDetails:
    """Return the keys of a service that are set, and its variables by name.

    A value from a file of variables is masked whatever it looks like, as everywhere that one is shown.
    """
    shown = redacted(project).service(spec.name) or spec
    table = without_secrets(shown, SERVICE.show_set(shown))
    keys = tuple((key, toml_value(value)) for key, value in table.items())
    return ServiceDetails(spec.name, keys, tuple(sorted(_variables(spec, variables))))


def _variables(spec: ServiceSpec, variables: ServiceVariables) -> Iterator[Variable]:
    files = variables.defaults.keys()
    secrets = secret_variables(spec) | {
        name for name, value in spec.env.items() if any(part in files for part in names_in(value))
    }
    for name in variables.defaults.keys() - variables.overrides.keys():
        yield Variable(name, MASK)
    for name, value in variables.overrides.items():
        yield Variable(name, MASK if name in secrets or is_secret(name, value) else value)
