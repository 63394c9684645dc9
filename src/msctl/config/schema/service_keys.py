"""The keys of `[services.NAME]`. Those of its routes and of its policy are in `route_keys`."""

from __future__ import annotations

from msctl.config.schema.health_keys import HEALTH
from msctl.config.schema.network_values import (
    HOST,
    PORT,
    SCHEME,
    SERVICE_URL,
)
from msctl.config.schema.program_values import (
    APP,
    COMMAND,
    ENV_FILES,
    ENVIRONMENT,
    FILE,
    FOLDER,
    IMAGE,
    SIGNAL,
)
from msctl.config.schema.quantities import DURATION
from msctl.config.schema.route_keys import POLICY, ROUTES
from msctl.config.schema.route_policy_keys import STATIC_FILES, UPSTREAM_TLS, check_upstream_tls, service_urls
from msctl.config.schema.table import Key, OnReload, Table, on_reload, table_type
from msctl.config.schema.value_type import Type, choice, describe, items_of
from msctl.config.schema.values import (
    BOOLEAN,
    EXIT_CODES,
    MOST_RESTARTS,
    PATTERN,
    POSITIVE,
    REPLICAS,
    WEIGHT,
)
from msctl.config.schema.websocket_keys import WEBSOCKET
from msctl.config.value_source import KeyRef
from msctl.hints import did_you_mean
from msctl.model.route_policies import HostHeader
from msctl.model.service_policies import Condition, Dependency, RestartPolicy
from msctl.model.service_spec import Framework, Isolation, ServiceSpec


def _depends_on(raw: object, ref: KeyRef) -> tuple[Dependency, ...]:
    found: dict[str, Dependency] = {}
    if isinstance(raw, dict):
        for name, condition in raw.items():
            found[name] = _dependency(name, condition, ref / name)
        return tuple(found.values())
    for index, name in enumerate(items_of(raw)):
        if not isinstance(name, str):
            raise (ref / index).error(f"expected the name of a service, found {describe(name)}")
        found.setdefault(name, Dependency(name))
    return tuple(found.values())


def _dependency(name: str, raw: object, ref: KeyRef) -> Dependency:
    if not isinstance(raw, dict):
        return Dependency(name, CONDITION.read(raw, ref))
    for key in raw:
        if key not in ("condition", "restart"):
            raise (ref / key).error("unknown key", hint=did_you_mean(key, ["condition", "restart"]))
    return Dependency(
        name,
        CONDITION.read(raw.get("condition", Condition.READY.value), ref / "condition"),
        BOOLEAN.read(raw.get("restart", False), ref / "restart"),
    )


def _show_depends_on(dependencies: tuple[Dependency, ...]) -> object:
    if all(d.condition is Condition.READY and not d.restart for d in dependencies):
        return [dependency.service for dependency in dependencies]
    return {
        d.service: {"condition": d.condition.value, "restart": True} if d.restart else d.condition.value
        for d in dependencies
    }


CONDITION = choice(Condition)
DEPENDS_ON = Type("a list of services, or a table from service to condition", _depends_on, _show_depends_on)

SERVICE = Table(
    "services.NAME",
    ServiceSpec,
    (
        Key(
            "app",
            APP,
            "A hosted service: an aiohttp, ASGI (FastAPI, Starlette, Django) or WSGI (Flask, Django) "
            "application, or a factory of one, from the project's folder.",
        ),
        Key(
            "framework",
            choice(Framework),
            "How `app` is called, where its object does not tell.",
        ),
        Key("threads", POSITIVE, "The most requests that a WSGI application handles at a time."),
        Key("websocket", table_type(WEBSOCKET), "Limits of the WebSockets of a hosted ASGI application."),
        Key(
            "command",
            COMMAND,
            "Any program, run without a shell. `$PORT` and other variables of its environment are replaced "
            "when it starts (with braces: `$${PORT}`; a dollar sign is `$$$$`); a script after `sh -c` is "
            "left to the shell.",
        ),
        Key(
            "shell",
            BOOLEAN,
            "Whether `/bin/sh -c` runs `command`, which is then one string: for `&&`, `|`, `>` and the like.",
        ),
        Key("host", HOST, "The address on which the service listens."),
        Key(
            "port",
            PORT,
            "The port of its own listener; 0 chooses a free one. Without it, only the gateway reaches it.",
        ),
        Key(
            "routes",
            ROUTES,
            "The requests that the gateway sends to it. The only `app` of a project without routes gets all, "
            "unless it has a port.",
            reload=OnReload.LIVE,
        ),
        Key(
            "depends_on",
            DEPENDS_ON,
            "Services that must be `started`, `ready` (the default) or `completed` first. An external "
            "service is probed once and not waited for. With "
            '`{ condition = "ready", restart = true }` a restart of the other restarts this one.',
            reload=OnReload.LIVE,
        ),
        Key("autostart", BOOLEAN, "Whether `msctl up` without names starts it.", reload=OnReload.LIVE),
        Key("replicas", REPLICAS, "The number of instances.", reload=OnReload.SCALE),
        Key("isolation", choice(Isolation), "Whether a hosted service runs in a process of its own."),
        Key(
            "health",
            HEALTH,
            "The path that answers 2xx or 3xx when the service is ready; or a table with one of `http` (a "
            "path), `tcp` (true or a port), `exec` (a command that exits with 0) and `log` (a regular "
            "expression of an output line), and with `headers`, `https`, `port`, `interval`, `timeout`, "
            "`retries` and `start_period`, which mean what they do in a compose file's `healthcheck`; "
            "an edit of the last four is applied without a restart.",
        ),
        Key("ready_log", PATTERN, "A regular expression: the first output line that it matches means ready."),
        Key(
            "liveness",
            BOOLEAN,
            "Whether failing probes restart an instance, instead of only taking it out of use.",
            reload=OnReload.LIVE,
        ),
        Key("oneshot", BOOLEAN, "A job that runs once; exit 0 is success."),
        Key(
            "restart",
            choice(RestartPolicy),
            "When an instance that has exited is restarted.",
            reload=OnReload.LIVE,
        ),
        Key(
            "max_restarts",
            MOST_RESTARTS,
            "How often it is restarted in a row, without half a minute of readiness in between, before it is "
            "`fatal`; 0 never restarts it. Default: 5 with `on-failure`, no limit with `always`.",
            reload=OnReload.LIVE,
        ),
        Key(
            "restart_window",
            DURATION,
            "Count the restarts of this time towards `max_restarts`, instead of those in a row.",
            reload=OnReload.LIVE,
        ),
        Key(
            "stop_signal",
            SIGNAL,
            "The signal that asks it to stop, such as `SIGINT`.",
            reload=OnReload.LIVE,
        ),
        Key(
            "stop_timeout",
            DURATION,
            "How long it may take to stop before it is killed; default: 5s hosted in the stack's process, "
            "10s otherwise.",
            reload=OnReload.LIVE,
        ),
        Key("start_timeout", DURATION, "How long it may take to become ready.", reload=OnReload.LIVE),
        Key(
            "success_exit_codes",
            EXIT_CODES,
            "Exit codes that count as success, besides 0.",
            reload=OnReload.LIVE,
        ),
        Key(
            "env",
            ENVIRONMENT,
            "Variables for the service; they override all others. A value may name variables of the service, "
            'such as `$PORT` or `$USERS_URL`. With `{ value = "...", secret = true }` a value is never shown '
            "and never exported; one with `${...}` neither.",
        ),
        Key(
            "env_file",
            ENV_FILES,
            "Files with variables for the service, in the format of `.env`; the shell's override them.",
        ),
        Key(
            "scheme",
            SCHEME,
            "The scheme of its `$NAME_URL`, for what does not speak HTTP: `redis`, `postgres`.",
            "http",
        ),
        Key(
            "cwd",
            FOLDER,
            "Its working directory, relative to the project's folder, which is the default; not for a hosted "
            "service in the stack's process.",
        ),
        Key(
            "url",
            service_urls(SERVICE_URL),
            "The URL of an external service, which the gateway and its dependents use. Several are as many "
            "instances. `srv+http://_http._tcp.NAME` takes addresses and ports from a name's SRV records.",
        ),
        Key(
            "resolve",
            DURATION,
            "Look the host of `url` up again after this time; each of its addresses counts as an instance.",
        ),
        Key(
            "host_header",
            choice(HostHeader),
            "The `Host` of requests to `url`: the client's, or that of the URL. Default: `upstream` if "
            "the URL has a name other than localhost, else `client`.",
        ),
        Key("tls", table_type(UPSTREAM_TLS, check_upstream_tls), 'Verification of a `url` with "https".'),
        Key(
            "static",
            STATIC_FILES,
            "A hosted service that answers with the files of a folder, instead of an `app`.",
        ),
        Key(
            "discover",
            BOOLEAN,
            "Whether instances that other machines announce in the registry of `[discovery]` take its "
            "requests too. A service without `app`, `command`, `url` and `static` is found there alone.",
        ),
        Key(
            "announce",
            BOOLEAN,
            "Whether its instances are announced in the registry; by default, if they listen on a port of "
            "their own.",
            reload=OnReload.LIVE,
        ),
        Key(
            "weight",
            WEIGHT,
            "The share of the requests that each of its instances takes beside those of other machines.",
        ),
        *on_reload(
            OnReload.LIVE,
            Key(
                "image",
                IMAGE,
                "For exports: the image of its container, instead of the one that msctl describes.",
            ),
            Key("build", FOLDER, "For exports: the folder with the Dockerfile of its image."),
            Key("dockerfile", FILE, "For exports: the Dockerfile of its image."),
            Key(
                "autoscale",
                POSITIVE,
                "For exports to Kubernetes: the most replicas of an autoscaler; without it, none.",
            ),
        ),
    ),
    inner=("policy", POLICY),
)
