"""What a target leaves out or does otherwise, said for each key; what several targets say alike. Pure.

A secret is never written to a file, so every target says which ones it must be given, and which values are
written in clear.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msctl.config.reading.layers import env_name
from msctl.config.schema.network_values import without_password
from msctl.config.secret_variables import literal_secrets, secret_references
from msctl.config.value_source import KeyPath, Layer, dotted
from msctl.export.kind import ExportOptions, Notice
from msctl.export.workloads import Workload, local_services
from msctl.model.project import Project
from msctl.model.service_policies import HealthSpec
from msctl.model.service_spec import Reference, ServiceSpec
from msctl.model.snapshots import GATEWAY


def value_notices(
    project: Project, options: ExportOptions, found: Sequence[Workload], where: str
) -> Iterator[Notice]:
    """Name the values that are not written to files, those in clear, and those that are from variables.

    `where` tells where the user gives the target the first ones.
    """
    yield from _secret_notices(found, where)
    yield from _clear_notices(project)
    yield from _source_notices(project, options)


def restart_notices(spec: ServiceSpec, key: str, target: str) -> Iterator[Notice]:
    """Name the keys of restarts that the target has no word for."""
    if spec.max_restarts is not None:
        yield Notice(f"{key}.max_restarts", f"{target} restarts it any number of times")
    if spec.restart_window is not None:
        yield Notice(f"{key}.restart_window", f"{target} has no such window")


def health_notices(spec: ServiceSpec, key: str, target: str) -> Iterator[Notice]:
    """Name what of `health` the target cannot express."""
    health = spec.health
    if isinstance(health, HealthSpec) and health.log is not None:
        yield Notice(f"{key}.health.log", f"{target} does not read logs; a connection tells that it is ready")
    if isinstance(health, HealthSpec) and any("$" in word.replace("$PORT", "") for word in health.exec or ()):
        yield Notice(f"{key}.health.exec", f"{target} fills in no variables of the service but $PORT")


def _secret_notices(found: Sequence[Workload], where: str) -> Iterator[Notice]:
    """Name the secrets that the user must give to the target."""
    for workload in found:
        key = GATEWAY if workload.is_gateway else f"services.{workload.name}.env"
        if workload.secrets:
            names = ", ".join(workload.secrets)
            yield Notice(key, f"{names}: secrets are not written to files; {where}")
        if workload.optional:
            names = ", ".join(workload.optional)
            yield Notice(key, f"{names}: not written to files; each has a default")
    if shared := dict.fromkeys(name for workload in found for name in workload.shared):
        yield Notice(".env", f"{', '.join(shared)}: not written to files; {where}")


def _clear_notices(project: Project) -> Iterator[Notice]:
    """Name what is written in clear: variables of `env`, and what else came from the machine's variables."""
    for spec in local_services(project):
        hidden = literal_secrets(spec) | {
            str(each.key[1]) for each in secret_references(spec) if each.key[0] == "env"
        }
        if names := [name for name in spec.env if name not in hidden]:
            yield Notice(f"services.{spec.name}.env", f"{', '.join(names)}: written in clear")
    for spec in project.services:
        secret = secret_references(spec)
        for each in spec.references:
            if each not in secret:
                yield _in_clear(("services", spec.name, *each.key), each)
    for each in project.references:
        if each.key[0] != "dashboard" and each.key != ("broker", "password"):
            yield _in_clear(each.key, each)


def _source_notices(project: Project, options: ExportOptions) -> Iterator[Notice]:
    """Name the services that are left out because they run elsewhere, and what variables have set."""
    left = {f"services.{spec.name}.url": spec for spec in project.services if spec.url is not None}
    for key, spec in left.items():
        source = options.sources.get(key)
        why = f", as {source} says" if source is not None else ""
        yield Notice(
            f"services.{spec.name}", f"left out: it runs elsewhere, at {without_password(spec.urls[0])}{why}"
        )
    for key, source in options.sources.items():
        is_used = key.startswith(("services.", "gateway.")) or key == "broker.url"
        if is_used and key not in left and source.layer in (Layer.ENV_FILE, Layer.VARIABLE):
            yield Notice(key, f"its value is from {source}")


def _in_clear(key: KeyPath, reference: Reference) -> Notice:
    names = ", ".join(sorted(reference.names))
    what = "without its password" if key == ("broker", "url") else "in clear"
    return Notice(dotted(key), f"what {names} gave is written {what}")


def discovery_notices(project: Project) -> Iterator[Notice]:
    """Say what of `[discovery]` each service on its own does, and which service loses an address by it."""
    if project.discovery.url is None:
        return
    yield Notice("discovery", "the gateway finds services there; no exported service is announced")
    for spec in project.services:
        needs = [
            other.name
            for other in local_services(project)
            if spec.only_discovered and spec.name in [one.service for one in other.depends_on]
        ]
        if needs:
            text = (
                f"give {', '.join(needs)} the gateway's URL in {env_name(spec.name)}_URL: there is no other"
            )
            yield Notice(f"services.{spec.name}.discover", text)
