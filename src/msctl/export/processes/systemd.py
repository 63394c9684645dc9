"""`systemd`: one unit per service, and a target for all, for systemd 247 or newer."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence

from msctl.export.broker import broker_plan, program_broker
from msctl.export.kind import ExportError, ExportKind, ExportOptions, File, Item, Notice
from msctl.export.names import labels, project_label, renamed
from msctl.export.notices import value_notices
from msctl.export.processes.machine import machine_workloads
from msctl.export.workloads import Workload, env_file_paths, local_services
from msctl.model.project import Project
from msctl.model.service_policies import Condition, RestartPolicy
from msctl.model.service_spec import ServiceSpec
from msctl.model.services import process_stop_timeout
from msctl.model.snapshots import BrokerMode

EXECUTABLE = "/usr/local/bin/msctl"
_RESTART = {
    RestartPolicy.ALWAYS: "always",
    RestartPolicy.ON_FAILURE: "on-failure",
    RestartPolicy.NO: "no",
}
_PLAIN = re.compile(r"[A-Za-z0-9_@/.:=+-]+")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_HARDENING = (
    "DynamicUser=yes",
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=read-only",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectControlGroups=yes",
    "RestrictSUIDSGID=yes",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    "LockPersonality=yes",
    "CapabilityBoundingSet=",
)


def render(project: Project, options: ExportOptions) -> Iterator[Item]:
    names = labels(spec.name for spec in local_services(project))
    found, address_notices = machine_workloads(project, options, names)
    name = project_label(project)
    units = {workload.name: f"{name}-{workload.label}.service" for workload in found}
    directory = options.directory or (str(project.root) if project.root else "/")
    yield File(f"{name}.target", _target(project, name, found, units))
    for workload in found:
        yield File(units[workload.name], _unit(workload, project, units, name, directory, options))
    yield from renamed(names)
    yield from address_notices
    yield from value_notices(
        project,
        options,
        found,
        f'write them as NAME="value" with mode 0600: a service\'s to /etc/{name}/SERVICE.env, '
        f"those of .env to {_shared_file(name)}",
    )
    yield from _differences(project, found)


def _target(project: Project, name: str, found: Sequence[Workload], units: Mapping[str, str]) -> str:
    started = [units[workload.name] for workload in found if workload.spec.autostart]
    manual = [units[workload.name] for workload in found if not workload.spec.autostart]
    lines = [
        f"# {project.name}. Copy these files to /etc/systemd/system, then:",
        "#   systemctl daemon-reload",
        f"#   systemctl enable --now {name}.target {' '.join(started)}",
        *(f"#   systemctl start {unit}    (not started by the target)" for unit in manual),
        "",
        "[Unit]",
        f"Description={_escaped(project.name)}: the whole system",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def _unit(
    workload: Workload,
    project: Project,
    units: Mapping[str, str],
    name: str,
    directory: str,
    options: ExportOptions,
) -> str:
    spec = workload.spec
    after = ["network-online.target"]
    if broker_plan(project.broker).is_ours and not workload.is_gateway:
        after.append("rabbitmq-server.service")
    wants = ["network-online.target"]
    requires: list[str] = []
    for dependency in spec.depends_on:
        if (unit := units.get(dependency.service)) is not None:
            after.append(unit)
            # A service keeps running without its dependencies; only a job must have succeeded.
            (requires if dependency.condition is Condition.COMPLETED else wants).append(unit)
    command = [options.executable or EXECUTABLE, *workload.serve(spec.host)]
    variables = {**workload.variables, **program_broker(workload.spec, project)}
    lines = [
        "[Unit]",
        f"Description={_escaped(project.name)}: {_escaped(workload.name)}",
        f"PartOf={name}.target",
        f"Wants={' '.join(wants)}",
        f"After={' '.join(after)}",
        *([f"Requires={' '.join(requires)}"] if requires else []),
        *_start_limit(spec),
        "",
        "[Service]",
        *(["Type=oneshot", "RemainAfterExit=yes"] if spec.oneshot else ["Type=exec"]),
        f"ExecStart={' '.join(_argument(word) for word in command)}",
        f"WorkingDirectory={_path(directory)}",
        *(f"Environment={_quoted(f'{key}={value}')}" for key, value in variables.items()),
        f"Environment=MSCTL_RUNTIME_DIR=%t/{name}-{workload.label}",
        f"RuntimeDirectory={name}-{workload.label}",
        "RuntimeDirectoryMode=0700",
    ]
    lines += [
        f"EnvironmentFile={_path(path if path.startswith('/') else f'{directory}/{path}')}"
        for path in env_file_paths(spec, project)
    ]
    if workload.shared:
        lines.append(f"EnvironmentFile={_shared_file(name)}")
    if workload.secrets:
        lines.append(f"EnvironmentFile=/etc/{name}/{workload.label}.env")
    if not spec.oneshot:
        lines += [f"Restart={_RESTART[spec.restart]}", "RestartSec=1"]
    lines += [
        f"TimeoutStartSec={math.ceil(spec.start_timeout)}",
        f"TimeoutStopSec={math.ceil(process_stop_timeout(spec)) + 1}",
        "KillMode=mixed",
    ]
    if spec.stop_signal != "SIGTERM":
        lines.append(f"KillSignal={spec.stop_signal}")
    if spec.success_exit_codes:
        lines.append(f"SuccessExitStatus={' '.join(map(str, spec.success_exit_codes))}")
    lines += [*_HARDENING]
    if spec.autostart:
        lines += ["", "[Install]", f"WantedBy={name}.target"]
    return "\n".join(lines) + "\n"


def _shared_file(name: str) -> str:
    """The file with the variables that each process needs to read msctl.toml, and those of .env."""
    return f"/etc/{name}.env"


def _start_limit(spec: ServiceSpec) -> list[str]:
    """`max_restarts` as systemd counts: starts, the first included, within a time."""
    if spec.max_restarts is None or spec.oneshot:
        return []
    window = spec.restart_window or (spec.max_restarts + 1) * 30.0
    return [f"StartLimitBurst={spec.max_restarts + 1}", f"StartLimitIntervalSec={math.ceil(window)}"]


def _differences(project: Project, found: Sequence[Workload]) -> Iterator[Notice]:
    if project.broker.mode in (BrokerMode.EMBEDDED, BrokerMode.LOCAL, BrokerMode.DOCKER, BrokerMode.AUTO):
        yield Notice("broker.mode", "the units run no broker: start one at the broker's URL")
    for workload in found:
        spec, key = workload.spec, f"services.{workload.name}"
        if spec.replicas > 1:
            yield Notice(f"{key}.replicas", "a unit is one instance")
        if any(each.condition is Condition.READY for each in spec.depends_on):
            yield Notice(f"{key}.depends_on", "systemd waits until they run, not until they are ready")
        if spec.liveness:
            yield Notice(f"{key}.liveness", "systemd has no liveness probes")
        if spec.health is not None:
            yield Notice(f"{key}.health", "systemd has no health checks: a unit is up once it runs")
        if any(each.restart for each in spec.depends_on):
            yield Notice(f"{key}.depends_on.restart", "systemd restarts no dependents")
        if spec.ready_log is not None:
            yield Notice(f"{key}.ready_log", "systemd does not read logs")


def _argument(text: str) -> str:
    return _quoted(text).replace("$", "$$")


def _quoted(text: str) -> str:
    """Quote a word (systemd.syntax(7)): `%` starts a specifier."""
    text = _escaped(text)
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_UNPRINTABLE.sub(_c_escape, escaped)}"'


def _c_escape(match: re.Match[str]) -> str:
    """Return the C-style escapes of a character's bytes (systemd.syntax(7))."""
    return "".join(f"\\x{byte:02x}" for byte in match.group().encode(errors="surrogateescape"))


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _path(text: str) -> str:
    """Return a path for a setting without quotes and escapes. Raises ExportError for what needs them."""
    if _UNPRINTABLE.search(text):
        raise ExportError(f"a unit cannot have the folder {text!r}", hint="rename it, or use --directory")
    return _escaped(text)


KIND = ExportKind(
    "systemd",
    "A unit for each service, and a target for all",
    render,
    frozenset({"executable", "directory"}),
    folder="systemd",
)
