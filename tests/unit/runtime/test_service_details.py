"""What the page shows of a service's configuration and environment."""

from __future__ import annotations

from msctl.model.broker_spec import BrokerSpec
from msctl.model.project import Project
from msctl.model.service_spec import ServiceSpec
from msctl.model.views import ServiceVariables
from msctl.runtime.service_details import service_details
from msctl.secret import MASK


def test_keys_and_variables_are_shown_without_secrets() -> None:
    spec = ServiceSpec("users", command=("users",), env={"DB": "a", "API_KEY": "k", "URL": "amqp://u:p@h/"})
    project = Project("shop", None, "msctl.toml", (spec,), None, BrokerSpec())
    variables = ServiceVariables({"FROM_FILE": "x", "DB": "file"}, {"PORT": "8080", **spec.env})
    found = service_details(project, spec, variables)

    assert dict(found.variables) == {
        "FROM_FILE": MASK,
        "PORT": "8080",
        "DB": "a",
        "API_KEY": MASK,
        "URL": MASK,
    }
    shown = dict(found.keys)
    assert '"a"' in shown["env"]
    assert '"k"' not in shown["env"]
