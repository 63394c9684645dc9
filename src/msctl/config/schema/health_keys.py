"""The key `health` of a service: a path, or a table of one probe and its times."""

from __future__ import annotations

from msctl.config.schema.network_values import HEADERS, PORT, URL_PATH
from msctl.config.schema.program_values import COMMAND
from msctl.config.schema.quantities import DURATION
from msctl.config.schema.table import Key, OnReload, Table, on_reload, table_type
from msctl.config.schema.value_type import Type
from msctl.config.schema.values import BOOLEAN, PATTERN, POSITIVE
from msctl.config.value_source import KeyRef
from msctl.model.service_policies import HealthSpec


def _tcp(raw: object, ref: KeyRef) -> bool | int:
    if isinstance(raw, bool):
        return raw
    return int(PORT.read(raw, ref))


HEALTH_TABLE = Table(
    "services.NAME.health",
    HealthSpec,
    (
        Key("http", URL_PATH, "The path that answers 2xx or 3xx."),
        Key("headers", HEADERS, "Fields of the request."),
        Key("https", BOOLEAN, "Whether the probe speaks TLS; no certificate is checked."),
        Key("port", PORT, "The port, if it is not the service's own."),
        Key("tcp", Type("true or a port", _tcp), "Whether an accepted connection is enough."),
        Key("exec", COMMAND, "A command that exits with 0."),
        Key("log", PATTERN, "A regular expression of the output line that means ready."),
        *on_reload(
            OnReload.LIVE,
            Key("interval", DURATION, "The time between probes once it is ready."),
            Key("timeout", DURATION, "The time limit of one probe."),
            Key("retries", POSITIVE, "Failures in a row that mean unhealthy."),
            Key("start_period", DURATION, "The time in which failures do not count."),
        ),
    ),
)


def _one_probe(spec: HealthSpec) -> str | None:
    kinds = [bool(spec.http), bool(spec.tcp), bool(spec.exec), bool(spec.log)]
    return None if sum(kinds) == 1 else "expected one of http, tcp, exec and log"


_HEALTH_TABLE = table_type(HEALTH_TABLE, _one_probe)


def _health(raw: object, ref: KeyRef) -> str | HealthSpec:
    found: str | HealthSpec = (_HEALTH_TABLE if isinstance(raw, dict) else URL_PATH).parse(raw, ref)
    return found


def _show_health(health: str | HealthSpec) -> object:
    return HEALTH_TABLE.show_set(health) if isinstance(health, HealthSpec) else health


HEALTH = Type('a path that starts with "/", or a table', _health, _show_health)
