"""Every key that msctl.toml knows: one line each, from which all else about keys follows.

Reading, hints for unknown keys, `MSCTL_*` names, `config --explain`, what `config` prints and the
reference all go by these tables. To add a key: a field in the model, with its default, and a line here.
"""

from __future__ import annotations

from msctl.config.origin import Place
from msctl.config.schema.route_keys import POLICY, POOL_SIZE, RETRIES, ROUTES
from msctl.config.schema.table import Key, OnReload, Section, on_reload, table_of
from msctl.config.schema.values import (
    AMQP_URL,
    APP,
    BOOLEAN,
    COMMAND,
    DURATION,
    ENVIRONMENT,
    EXIT_CODES,
    FILE,
    FOLDER,
    HOST,
    NAME,
    NETWORKS,
    OPTIONAL_PATH,
    PATTERN,
    PORT,
    POSITIVE,
    RATE,
    REPLICAS,
    SECRET,
    SERVICE_URL,
    SHARE,
    SIZE,
    URL_PATH,
    Type,
    choice,
    describe,
    items_of,
)
from msctl.model.project import (
    Balance,
    BrokerSpec,
    Condition,
    DashboardSpec,
    Dependency,
    GatewaySpec,
    Isolation,
    Project,
    RestartPolicy,
    ServiceSpec,
    TlsSpec,
    TlsVersion,
)
from msctl.model.snapshots import BrokerMode


def _depends_on(raw: object, place: Place) -> tuple[Dependency, ...]:
    found: dict[str, Dependency] = {}
    if isinstance(raw, dict):
        for name, condition in raw.items():
            found[name] = Dependency(name, CONDITION.read(condition, place / name))
        return tuple(found.values())
    for index, name in enumerate(items_of(raw)):
        if not isinstance(name, str):
            raise (place / index).error(f"expected the name of a service, found {describe(name)}")
        found.setdefault(name, Dependency(name))
    return tuple(found.values())


def _show_depends_on(dependencies: tuple[Dependency, ...]) -> object:
    if all(dependency.condition is Condition.READY for dependency in dependencies):
        return [dependency.service for dependency in dependencies]
    return {dependency.service: dependency.condition.value for dependency in dependencies}


CONDITION = choice(Condition)
DEPENDS_ON = Type("a list of services, or a table from service to condition", _depends_on, _show_depends_on)

PROJECT = Section(
    "project",
    Project,
    (
        Key(
            "name",
            NAME,
            "What the stack is called; one of a name runs at a time.",
            "the folder's name",
            reload=OnReload.REFUSE,
        ),
    ),
)

SERVICE = Section(
    "services.NAME",
    ServiceSpec,
    (
        Key(
            "app",
            APP,
            "Hosted: an aiohttp application, or a factory of one, imported from the project's folder.",
        ),
        Key(
            "command",
            COMMAND,
            "Any program, without a shell. `$PORT` and the like, from its environment, are filled in when it "
            "starts (with braces: `$${PORT}`; a dollar sign is `$$$$`); the script after `sh -c` is left to "
            "the shell.",
        ),
        Key("host", HOST, "The address on which the service listens."),
        Key("port", PORT, "Its own listener; 0 takes a free one. Without it, only the gateway leads to it."),
        Key("routes", ROUTES, "What the gateway sends here.", reload=OnReload.LIVE),
        Key(
            "depends_on",
            DEPENDS_ON,
            "Services that must be `started`, `ready` (the default) or `completed` first. One that runs "
            "elsewhere is asked once and not waited for.",
            reload=OnReload.LIVE,
        ),
        Key("autostart", BOOLEAN, "Whether a bare `msctl up` starts it.", reload=OnReload.LIVE),
        Key("replicas", REPLICAS, "How many instances run.", reload=OnReload.SCALE),
        Key("isolation", choice(Isolation), "Whether a hosted service runs in a process of its own."),
        Key("health", URL_PATH, "The path that answers 2xx once the service can take requests."),
        Key(
            "ready_log", PATTERN, "A regular expression: the first line of output that it finds means ready."
        ),
        Key(
            "liveness",
            BOOLEAN,
            "Whether failing `health` restarts an instance, not only takes it out of use.",
            reload=OnReload.LIVE,
        ),
        Key("oneshot", BOOLEAN, "A job that runs once: exit 0 is its success."),
        Key(
            "restart",
            choice(RestartPolicy),
            "When an instance that ended is started again.",
            reload=OnReload.LIVE,
        ),
        Key(
            "stop_timeout",
            DURATION,
            "How long it may take to stop before it is killed; without it, 5 s if hosted in the stack's "
            "process, else 10 s.",
            reload=OnReload.LIVE,
        ),
        Key("start_timeout", DURATION, "How long it may take to become ready.", reload=OnReload.LIVE),
        Key(
            "success_exit_codes",
            EXIT_CODES,
            "Exit codes that count as success, besides 0.",
            reload=OnReload.LIVE,
        ),
        Key("env", ENVIRONMENT, "Variables for the service, over those of the stack."),
        Key("cwd", FOLDER, "The folder that it runs in, from the project's own."),
        Key(
            "url",
            SERVICE_URL,
            "Where it runs instead of here: the gateway and its dependents go to this address.",
        ),
    ),
    inner=("policy", POLICY),
)


def _pair(spec: TlsSpec) -> str | None:
    if (spec.cert is None) != (spec.key is None):
        return "a certificate needs its private key: set cert and key, or neither"
    return None


TLS = Section(
    "gateway.tls",
    TlsSpec,
    on_reload(
        OnReload.LIVE,
        Key("cert", FILE, "The gateway speaks HTTPS with this certificate (PEM, its chain behind it)."),
        Key("key", FILE, "The certificate's private key (PEM, not encrypted)."),
        Key(
            "dev",
            BOOLEAN,
            "HTTPS with a certificate for localhost, signed by a local authority, in place of `cert` and "
            "`key`. `msctl up --dev-tls` sets it.",
        ),
        Key("min_version", choice(TlsVersion), "The oldest version of TLS that is spoken."),
    ),
)

HTTPS = table_of(TLS, _pair)._replace(show=TLS.show)

GATEWAY = Section(
    "gateway",
    GatewaySpec,
    (
        Key("enabled", BOOLEAN, "Whether there is a gateway.", default=True),
        Key("host", HOST, "The address on which it listens."),
        Key("port", PORT, "The port on which it listens; 0 takes a free one."),
        *on_reload(
            OnReload.LIVE,
            Key("connect_timeout", DURATION, "To connect to a service."),
            Key("response_timeout", DURATION, "Until a service has answered with its headers."),
            Key("idle_timeout", DURATION, "Without a byte in either direction."),
            Key("max_body", SIZE, "The largest request body; 0 sets no limit."),
            Key("drain_timeout", DURATION, "For requests in flight when it stops."),
            Key(
                "trusted_peers", NETWORKS, "Addresses or networks whose `X-Forwarded-*` fields are believed."
            ),
            Key("forwarded", BOOLEAN, "Whether `Forwarded` (RFC 7239) is added too."),
            Key("pool_size", POOL_SIZE, "The most connections to each instance."),
            Key("pool_idle", DURATION, "How long an unused connection is kept."),
            Key("retries", RETRIES, "How often an idempotent request is tried again."),
            Key("retry_body", SIZE, "The largest body of a request that is tried again."),
            Key(
                "retry_budget", SHARE, "Retries are at most this share of the requests of the last 10 s, ..."
            ),
            Key("retry_floor", RATE, "... and this many a second besides."),
            Key("backoff_min", DURATION, "The shortest pause before a retry."),
            Key("backoff_max", DURATION, "The longest pause before a retry."),
            Key("breaker_failures", POSITIVE, "Failures in a row that open an instance's circuit breaker."),
            Key("breaker_open", DURATION, "How long it stays open, times its openings in a row, ..."),
            Key("breaker_cap", DURATION, "... and at most."),
            Key("balance", choice(Balance), "How one of several instances is chosen."),
            Key("ready_path", OPTIONAL_PATH, 'Where the gateway tells its own readiness; "" is nowhere.'),
            Key("access_log_sample", SHARE, "The share of successful requests that are logged."),
            Key("tls", HTTPS, "HTTPS for all that is served on the gateway's address."),
        ),
    ),
)

BROKER = Section(
    "broker",
    BrokerSpec,
    on_reload(
        OnReload.REFUSE,
        Key("mode", choice(BrokerMode), "Which AMQP server is used."),
        Key("url", AMQP_URL, "Where it is, for the stack, its services, `send` and `consume`."),
    ),
)

DASHBOARD = Section(
    "dashboard",
    DashboardSpec,
    on_reload(
        OnReload.REFUSE,
        Key("enabled", BOOLEAN, "Whether the page and the metrics are served."),
        Key("host", HOST, "The address on which it listens; beyond loopback it needs a password."),
        Key("port", PORT, "The port on which it listens; 0 takes a free one."),
        Key("password", SECRET, "What a browser asks for, with any user name; best in `.env`."),
    ),
)

SINGLE = {tuple(section.title.split(".")): section for section in (PROJECT, GATEWAY, TLS, BROKER, DASHBOARD)}
"""The sections that there is one of, each by the path of its table."""
TABLES = (*(path[0] for path in SINGLE if len(path) == 1), "services")
