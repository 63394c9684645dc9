"""`compose`: each service in a container, with RabbitMQ as the course runs it.

Rules of Docker Compose that the file keeps:
- A service with a read-only root takes configs and secrets from files, not inline (docker/compose 12531).
- One service builds an image that several use: builds run in parallel, and BuildKit refuses to export a tag
  twice. The others neither build nor pull it.
- Whatever holds a `$` is escaped; values that compose fills in are not read again.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from msctl.export.broker import AMQP_URL, BROKER, BROKER_PORT, PASSWORD, USERNAME, BrokerPlan
from msctl.export.containers import docker, program
from msctl.export.containers.health_command import health_command
from msctl.export.containers.images import Image, Language
from msctl.export.containers.system import ContainerSystem, container_system
from msctl.export.kind import ExportKind, ExportOptions, File, Item, Notice
from msctl.export.monitoring import grafana, prometheus
from msctl.export.names import project_label
from msctl.export.notices import health_notices, restart_notices
from msctl.export.workloads import METRICS_PORT, Workload, env_file_paths, local_services
from msctl.export.yaml import dump
from msctl.model.address import LOOPBACK
from msctl.model.project import Project
from msctl.model.service_policies import Condition, HealthSpec, RestartPolicy
from msctl.model.service_spec import ServiceSpec
from msctl.model.services import listens, process_stop_timeout

RABBITMQ_IMAGE = "rabbitmq:3-management"  # the course's own
PROMETHEUS_IMAGE = "prom/prometheus:v3.5.0"
GRAFANA_IMAGE = "grafana/grafana:12.1.0"
PROMETHEUS_PORT = 9090
GRAFANA_PORT = 3000
MONITORING = "monitoring"
CONFIG = "compose/msctl.toml"
"""Not beside compose.yaml, where the project has its own."""

_CONDITIONS = {
    Condition.STARTED: "service_started",
    Condition.READY: "service_healthy",
    Condition.COMPLETED: "service_completed_successfully",
}
_RESTART = {
    RestartPolicy.ALWAYS: "unless-stopped",
    RestartPolicy.ON_FAILURE: "on-failure",
    RestartPolicy.NO: "no",
}
_QUOTED_PASSWORD = "${BROKER_PASSWORD_QUOTED:?the password of the broker, percent-encoded}"  # noqa: S105
_PASSWORD = "${BROKER_PASSWORD:?the password of the broker}"  # noqa: S105 - a reference, not a password


def render(project: Project, options: ExportOptions) -> Iterator[Item]:
    others = {"prometheus": "Prometheus's container", "grafana": "Grafana's container"}
    system = container_system(project, options, others if options.monitoring else None)
    broker, found = system.broker, system.found

    builders = _builders(system)
    services: dict[str, object] = {
        workload.label: _service(workload, system, is_builder=workload.name in builders) for workload in found
    }
    if broker.is_ours:
        services[BROKER] = _rabbitmq(broker)
    if options.monitoring:
        services |= _monitoring()
    document = {
        "name": project_label(project),
        "services": services,
        **({"configs": {"msctl": {"file": f"./{CONFIG}"}}} if system.has_msctl else {}),
        **({"volumes": {"prometheus": {}, "grafana": {}}} if options.monitoring else {}),
    }
    needs_env = broker.has_secret or any((*each.secrets, *each.optional, *each.shared) for each in found)
    env_file = f"{options.context}/.env" if needs_env and options.context != "." else None
    yield File("compose.yaml", dump(document, comment=_comment(project, options, env_file)))
    if system.has_msctl:
        yield File(CONFIG, system.config)
    yield from docker.image_files(project, options)
    if options.monitoring:
        yield from _monitoring_files(project, found, broker)

    yield from system.notices("set them in the environment or in the .env that compose reads")
    if broker.has_secret:
        yield Notice("broker.url", "BROKER_PASSWORD: its password, not quoted; set it in the environment too")
        if system.has_programs:
            why = "for commands that run without msctl"
            yield Notice("broker.url", f"BROKER_PASSWORD_QUOTED: the same, percent-encoded, {why}")
    yield from _differences(system)


def _builders(system: ContainerSystem) -> frozenset[str]:
    """The services that build their image: of those that share one, the first that is started."""
    first: dict[str, str] = {}
    for workload in sorted(system.found, key=lambda each: not each.spec.autostart):
        image = system.known[workload.name]
        if image.dockerfile is not None:
            first.setdefault(image.name, workload.name)
    return frozenset(first.values())


def _comment(project: Project, options: ExportOptions, env_file: str | None) -> str:
    """`env_file` is the project's, where compose does not find it by itself."""
    compose = "docker compose" if env_file is None else f"docker compose --env-file {shlex.quote(env_file)}"
    lines = [
        f"{project.name}: each service in a container. Needs Docker Compose 2.23.1 or newer.",
        "",
        f"  {compose} up --build --wait",
    ]
    manual = [spec.name for spec in local_services(project) if not spec.autostart]
    if manual:
        lines.append(f"  {compose} up {' '.join(manual)}    (not started by the first command)")
    if options.monitoring:
        lines += [
            f"  Grafana is at http://127.0.0.1:{GRAFANA_PORT}, Prometheus at http://127.0.0.1:{PROMETHEUS_PORT}"
        ]
    return "\n".join(lines)


def _service(workload: Workload, system: ContainerSystem, *, is_builder: bool) -> dict[str, object]:
    project, options, broker = system.project, system.options, system.broker
    spec = workload.spec
    image = system.known[workload.name]
    service: dict[str, object] = {"image": image.name}
    if is_builder:
        service["build"] = {"context": image.context, "dockerfile": image.dockerfile}
    elif image.dockerfile is not None and options.registry is None:
        service["pull_policy"] = "never"
    if image.argv is None:
        service |= {
            "command": list(workload.serve_in_container()),
            "environment": _environment(workload, broker),
            "configs": [{"source": "msctl", "target": "/app/msctl.toml"}],
        }
    else:
        service["entrypoint"] = [_literal(word) for word in image.argv]  # also in place of the image's own
        service["environment"] = _program_environment(workload, broker)
    if ports := _published(workload, project):
        service["ports"] = ports
    if (check := workload.health) is None:
        service["healthcheck"] = {"disable": True}
    elif (command := health_command(check, image.language)) is not None:
        service["healthcheck"] = {
            "test": ["CMD", *map(_literal, command)],
            "interval": f"{check.interval_s}s",
            "timeout": f"{check.timeout_s + 1}s",
            "retries": check.retries,
            "start_period": f"{check.start_period_s}s",
        }
    if spec.env_file:
        service["env_file"] = [
            path if path.startswith("/") else f"{options.context}/{path}"
            for path in env_file_paths(spec, project)
        ]
    if needs := _depends_on(workload, system):
        service["depends_on"] = needs
    if not spec.autostart:
        service["profiles"] = [workload.label]
    if spec.replicas > 1:
        service["deploy"] = {"replicas": spec.replicas}
    return service | {
        "restart": _restart(spec),
        "init": True,
        **({} if spec.stop_signal == "SIGTERM" else {"stop_signal": spec.stop_signal}),
        "stop_grace_period": f"{math.ceil(process_stop_timeout(spec))}s",
        "read_only": True,
        "tmpfs": ["/tmp"],  # noqa: S108 - the container's own
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
    }


def _restart(spec: ServiceSpec) -> str:
    if spec.oneshot or spec.max_restarts == 0:
        return "no"
    if spec.restart is RestartPolicy.ON_FAILURE and spec.max_restarts is not None:
        return f"on-failure:{spec.max_restarts}"
    return _RESTART[spec.restart]


def _environment(workload: Workload, broker: BrokerPlan) -> dict[str, object]:
    """Return the variables; the value of a secret comes from the environment of compose, or its `.env`.

    A variable without a value is passed on if it is set there.
    """
    found: dict[str, object] = {name: _literal(value) for name, value in workload.variables.items()}
    if not workload.is_gateway:
        found |= _broker_variables(broker)
    for name in workload.secrets:
        found[name] = f"${{{name}:?a secret of {workload.name}}}"
    for name in workload.shared:
        found[name] = f"${{{name}?it was in .env}}"
    for name in workload.optional:
        found[name] = None
    return found


def _literal(text: str) -> str:
    """Escape `$`, so that compose interpolates nothing."""
    return text.replace("$", "$$")


def _program_environment(workload: Workload, broker: BrokerPlan) -> dict[str, object]:
    """Return all variables that msctl would give the command, which runs without it."""
    known = program.known_variables(workload)
    written, left = program.values(workload, known, _rendered)
    found: dict[str, object] = {name: _literal(value) for name, value in known.items()}
    found[AMQP_URL] = broker.url("guest:guest")
    if broker.has_secret:
        # Compose cannot quote a password into a URL.
        found[AMQP_URL] = _literal(broker.url(f"{quote(broker.user, safe='')}:")).replace(
            ":@", f":{_QUOTED_PASSWORD}@"
        )
    for name in workload.shared:
        found[name] = f"${{{name}?it was in .env}}"
    for name in left:
        found[name] = f"${{{name}:?a secret of {workload.name}}}"
    return found | written


def _rendered(pieces: Sequence[str | program.Named]) -> str:
    """A text in the syntax of compose, whose references are those of msctl.toml."""
    text = ""
    for piece in pieces:
        if isinstance(piece, str):
            text += _literal(piece)
        elif piece.source.startswith("${"):
            text += f"${{{piece.name}{piece.operator or '?it is needed'}}}"
        else:
            text += _literal(piece.source)
    return text


def _broker_variables(broker: BrokerPlan) -> dict[str, object]:
    """The broker's URL; a password beside it, since compose cannot quote one into a URL."""
    if not broker.has_secret:
        return {AMQP_URL: broker.url("guest:guest")}
    return {AMQP_URL: broker.url(""), USERNAME: _literal(broker.user), PASSWORD: _PASSWORD}


def _published(workload: Workload, project: Project) -> list[str]:
    """Return the ports to publish: those that the project declares."""
    spec = workload.spec
    gateway = project.gateway
    if workload.address is None or not spec.port or spec.replicas > 1:
        return []
    if gateway is not None and not workload.is_gateway and spec.port == gateway.port:
        return []
    host = LOOPBACK if spec.host == "localhost" else spec.host
    return [f"{f'[{host}]' if ':' in host else host}:{spec.port}:{workload.address.port}"]


def _depends_on(workload: Workload, system: ContainerSystem) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = {}
    project, names, known = system.project, system.names, system.known
    for dependency in workload.spec.depends_on:
        other = project.service(dependency.service)
        if other is None or other.name not in names:  # it runs elsewhere
            continue
        condition = dependency.condition
        if condition is Condition.READY and not _checked(other, known[other.name]):
            condition = Condition.STARTED  # it has no health check
        found[names[other.name]] = {"condition": _CONDITIONS[condition]}
        if dependency.restart:
            found[names[other.name]]["restart"] = True
    return found


def _checked(spec: ServiceSpec, image: Image) -> bool:
    if image.argv is not None and image.language is Language.GIVEN:
        return isinstance(spec.health, HealthSpec) and spec.health.exec is not None
    return listens(spec) or (isinstance(spec.health, HealthSpec) and spec.health.log is None)


def _rabbitmq(broker: BrokerPlan) -> dict[str, object]:
    environment: dict[str, object] = {}
    if broker.has_secret:
        environment |= {"RABBITMQ_DEFAULT_USER": _literal(broker.user), "RABBITMQ_DEFAULT_PASS": _PASSWORD}
    if broker.vhost:
        environment["RABBITMQ_DEFAULT_VHOST"] = broker.vhost
    return {
        "image": RABBITMQ_IMAGE,
        "hostname": BROKER,  # the node's name, and so its data directory, depends on it
        **({"environment": environment} if environment else {}),
        "ports": [f"{LOOPBACK}:{BROKER_PORT}:{BROKER_PORT}", f"{LOOPBACK}:15672:15672"],
        "healthcheck": {
            "test": ["CMD", "rabbitmq-diagnostics", "-q", "check_port_connectivity"],
            "interval": "10s",
            "timeout": "10s",
            "retries": 6,
            "start_period": "60s",
        },
        "restart": "unless-stopped",
        "stop_grace_period": "30s",
    }


def _monitoring() -> dict[str, object]:
    return {
        "prometheus": {
            "image": PROMETHEUS_IMAGE,
            "volumes": [
                f"./{MONITORING}/prometheus:/etc/prometheus:ro",
                "prometheus:/prometheus",
            ],
            "ports": [f"{LOOPBACK}:{PROMETHEUS_PORT}:9090"],
            "restart": "unless-stopped",
        },
        "grafana": {
            "image": GRAFANA_IMAGE,
            "environment": {"GF_SECURITY_ADMIN_PASSWORD": "${GRAFANA_PASSWORD:-admin}"},
            "volumes": [
                f"./{MONITORING}/grafana/provisioning:/etc/grafana/provisioning:ro",
                f"./{MONITORING}/grafana/dashboards:/var/lib/grafana/dashboards:ro",
                "grafana:/var/lib/grafana",
            ],
            "ports": [f"{LOOPBACK}:{GRAFANA_PORT}:3000"],
            "depends_on": ["prometheus"],
            "restart": "unless-stopped",
        },
    }


def _monitoring_files(project: Project, found: Sequence[Workload], broker: BrokerPlan) -> Iterator[File]:
    jobs = [
        prometheus.Job(
            workload.name,
            (f"{workload.label}:{METRICS_PORT}",),
            resolve=workload.spec.replicas > 1,
        )
        for workload in found
        if workload.has_metrics
    ]
    if broker.is_ours:  # the image enables RabbitMQ's Prometheus plugin, on a port of its own
        jobs.append(prometheus.Job(BROKER, (f"{BROKER}:15692",), path="/metrics/per-object"))
    yield from prometheus.files(project, jobs, f"{MONITORING}/prometheus", is_exported=True)
    yield from grafana.files(project, "http://prometheus:9090", f"{MONITORING}/grafana")


def _differences(system: ContainerSystem) -> Iterator[Notice]:
    project = system.project
    for workload in system.found:
        spec, key = workload.spec, f"services.{workload.name}"
        image = system.known[workload.name]
        if workload.health is not None and health_command(workload.health, image.language) is None:
            yield Notice(f"{key}.health", "compose runs probes in the image: that of its Dockerfile is used")
        if image.argv is not None and workload.health is not None and workload.health.secret_headers:
            yield Notice(f"{key}.health.headers", "its probe sends no field with a secret")
        if spec.port and spec.replicas > 1:
            yield Notice(
                f"{key}.port",
                f"{spec.replicas} containers cannot share port {spec.port}; it is not published",
            )
        elif project.gateway is not None and not workload.is_gateway and spec.port == project.gateway.port:
            yield Notice(f"{key}.port", f"port {spec.port} is published by the gateway, which routes to it")
        if spec.ready_log is not None:
            yield Notice(
                f"{key}.ready_log",
                "compose does not read logs; the health check decides when it is ready",
            )
        yield from health_notices(spec, key, "compose")
        if spec.restart is not RestartPolicy.ON_FAILURE or spec.restart_window is not None:
            yield from restart_notices(spec, key, "compose")
        if spec.liveness:
            yield Notice(f"{key}.liveness", "compose does not restart an unhealthy container")
        if spec.success_exit_codes:
            yield Notice(f"{key}.success_exit_codes", "compose treats only 0 as success")


KIND = ExportKind(
    "compose",
    "A compose file with RabbitMQ; --monitoring adds Prometheus and Grafana",
    render,
    frozenset({"image", "registry", "tag", "monitoring"}),
)
