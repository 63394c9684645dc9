"""Every key of msctl.toml, one line each.

Reading, hints for unknown keys, `MSCTL_*` names, `config`, reload and the reference derive from these
tables. To add a key: a field in the model, with its default, and a line here.
"""

from __future__ import annotations

from msctl.config.schema.route_keys import FAILURE_KINDS, POLICY, POOL_SIZE, RETRIES, ROUTES
from msctl.config.schema.route_policy_keys import (
    STATIC_FILES,
    UPSTREAM_TLS,
    check_upstream_tls,
    service_urls,
)
from msctl.config.schema.table import Key, OnReload, Table, on_reload, table_type
from msctl.config.schema.value_type import Type, choice, describe, items_of
from msctl.config.schema.values import (
    AMQP_URL,
    APP,
    BOOLEAN,
    COMMAND,
    DURABLE,
    DURATION,
    ENV_FILES,
    ENVIRONMENT,
    EXIT_CODES,
    FILE,
    FOLDER,
    GATEWAY_HOSTS,
    HEADER_BYTES,
    HEADER_FIELDS,
    HEADERS,
    HOST,
    IMAGE,
    MEMORY_SIZE,
    MESSAGE_SIZE,
    MOST_RESTARTS,
    NAME,
    NETWORKS,
    OPTIONAL_PATH,
    PATTERN,
    PORT,
    POSITIVE,
    RATE,
    REGISTRY_URL,
    REPLICAS,
    SCHEME,
    SECRET,
    SERVICE_URL,
    SHARE,
    SIGNAL,
    SIZE,
    TEXT,
    URL_PATH,
    WEIGHT,
)
from msctl.config.value_source import KeyRef
from msctl.hints import did_you_mean
from msctl.model.project import (
    Balance,
    BrokerSpec,
    BrokerTlsSpec,
    Condition,
    DashboardSpec,
    Dependency,
    DiscoverySpec,
    Framework,
    GatewaySpec,
    HealthSpec,
    Isolation,
    Project,
    RestartPolicy,
    ServiceAddresses,
    ServiceSpec,
    TlsSpec,
    TlsVersion,
)
from msctl.model.route_policies import HostHeader
from msctl.model.snapshots import BrokerMode


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

PROJECT = Table(
    "project",
    Project,
    (
        Key(
            "name",
            NAME,
            "The name of the stack; only one of a name runs at a time.",
            "the folder's name",
            reload=OnReload.REFUSE,
        ),
    ),
)

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
        Key(
            "command",
            COMMAND,
            "Any program, run without a shell. `$PORT` and other variables of its environment are replaced "
            "when "
            "it starts (with braces: `$${PORT}`; a dollar sign is `$$$$`); a script after `sh -c` is left "
            "to the "
            "shell.",
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
            "service is "
            'probed once and not waited for. With `{ condition = "ready", restart = true }` a restart of '
            "the other restarts this one.",
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
            "10s "
            "otherwise.",
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
        Key("cwd", FOLDER, "Its working directory, relative to the project's folder."),
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


def _pair(spec: TlsSpec) -> str | None:
    if (spec.cert is None) != (spec.key is None):
        return "set both cert and key, or neither"
    return None


TLS = Table(
    "gateway.tls",
    TlsSpec,
    on_reload(
        OnReload.LIVE,
        Key(
            "cert", FILE, "The certificate with which the gateway serves HTTPS (PEM, followed by its chain)."
        ),
        Key("key", FILE, "The certificate's private key (PEM, not encrypted)."),
        Key(
            "dev",
            BOOLEAN,
            "HTTPS with a certificate for localhost, signed by a local authority, instead of `cert` and "
            "`key`. `msctl up --dev-tls` sets it.",
        ),
        Key("min_version", choice(TlsVersion), "The oldest TLS version accepted."),
    ),
)

HTTPS = table_type(TLS, _pair)._replace(show=TLS.show)

GATEWAY = Table(
    "gateway",
    GatewaySpec,
    (
        Key("enabled", BOOLEAN, "Whether there is a gateway.", default=True),
        Key("host", HOST, "The address on which it listens."),
        Key("port", PORT, "The port on which it listens; 0 chooses a free one."),
        Key(
            "service_addresses",
            choice(ServiceAddresses),
            "Which services have a balanced `$NAME_URL` that stays the same over restarts and scaling.",
            reload=OnReload.REFUSE,
        ),
        *on_reload(
            OnReload.REFUSE,
            Key("max_header_bytes", HEADER_BYTES, "The largest head of a request; a larger one gets 431."),
            Key("max_header_fields", HEADER_FIELDS, "The most fields of a request's head."),
        ),
        *on_reload(
            OnReload.LIVE,
            Key("connect_timeout", DURATION, "The time limit of a connection attempt to a service."),
            Key("response_timeout", DURATION, "The time limit until a service's response head."),
            Key("idle_timeout", DURATION, "The time limit without a byte in either direction."),
            Key(
                "stream_idle_timeout",
                DURATION,
                "The same for WebSockets and event streams, which may be silent for long; 0 sets no limit. "
                "A silent WebSocket is closed with 1001, an event stream ends.",
            ),
            Key("max_body", SIZE, "The largest request body; 0 sets no limit."),
            Key("drain_timeout", DURATION, "The time limit of requests in flight when it stops."),
            Key(
                "hosts",
                GATEWAY_HOSTS,
                "Hosts that the gateway and the services' own ports answer for, besides localhost, "
                "`*.localhost`, loopback addresses and the hosts of routes; any other gets 421. Pages of "
                'these hosts may send POST and the like. `"*"` allows all. Without it, a gateway that '
                "listens beyond loopback answers for any host.",
            ),
            Key("trusted_peers", NETWORKS, "Addresses or networks whose `X-Forwarded-*` fields are trusted."),
            Key("forwarded", BOOLEAN, "Whether `Forwarded` (RFC 7239) is added too."),
            Key("pool_size", POOL_SIZE, "The most connections to each instance."),
            Key("pool_idle", DURATION, "How long an unused connection is kept."),
            Key("retries", RETRIES, "How often an idempotent request is retried."),
            Key("retry_body", SIZE, "The largest body of a request that is retried."),
            Key("retry_budget", SHARE, "Retries are at most this share of the requests of the last 10 s ..."),
            Key("retry_floor", RATE, "... plus this many a second."),
            Key("backoff_min", DURATION, "The shortest pause before a retry."),
            Key("backoff_max", DURATION, "The longest pause before a retry."),
            Key("breaker_failures", POSITIVE, "Failures in a row that open an instance's circuit breaker."),
            Key("breaker_open", DURATION, "How long it stays open, times its consecutive openings ..."),
            Key("breaker_cap", DURATION, "... and at most."),
            Key(
                "breaker_on",
                FAILURE_KINDS,
                "The failures that count for the circuit breaker; the application's 5xx only if named.",
            ),
            Key("balance", choice(Balance), "How an instance is chosen among several."),
            Key("ready_path", OPTIONAL_PATH, 'The path of the gateway\'s own readiness; "" switches it off.'),
            Key(
                "openapi",
                OPTIONAL_PATH,
                "The path of one OpenAPI document, joined from the `/openapi.json` of the services; "
                '"" for none. It is public, also for routes that require a key.',
            ),
            Key("access_log_sample", SHARE, "The share of successful requests that is logged."),
            Key("tls", HTTPS, "HTTPS for everything on the gateway's address."),
        ),
    ),
)

BROKER_TLS = Table(
    "broker.tls",
    BrokerTlsSpec,
    on_reload(
        OnReload.REFUSE,
        Key("cert", FILE, "The certificate for AMQPS of an embedded broker (PEM, followed by its chain)."),
        Key("key", FILE, "The certificate's private key (PEM, not encrypted)."),
        Key(
            "dev",
            BOOLEAN,
            "AMQPS with a certificate for localhost, signed by the local authority of `--dev-tls`, instead "
            "of `cert` and `key`.",
        ),
        Key("min_version", choice(TlsVersion), "The oldest TLS version accepted."),
        Key("port", PORT, "The port of AMQPS; 0 chooses a free one."),
        Key("only", BOOLEAN, "Whether the embedded broker has no port without TLS."),
        Key(
            "ca",
            FILE,
            "The authority of `cert`, if it is private (PEM). With `only`, the stack's clients need it.",
        ),
    ),
)

AMQPS = table_type(BROKER_TLS, _pair)._replace(show=BROKER_TLS.show)

BROKER = Table(
    "broker",
    BrokerSpec,
    on_reload(
        OnReload.REFUSE,
        Key("mode", choice(BrokerMode), "Which AMQP server is used."),
        Key("url", AMQP_URL, "The URL of the broker, for the stack, its services, `send` and `consume`."),
        Key("username", TEXT, "The user, instead of the one in `url`."),
        Key("password", SECRET, "Its password as it is, not percent-encoded, instead of the one in `url`."),
        Key("max_message_size", MESSAGE_SIZE, "The largest message that an embedded broker takes."),
        Key(
            "memory_limit",
            MEMORY_SIZE,
            "The memory for messages above which an embedded broker blocks publishers.",
        ),
        Key(
            "durable",
            DURABLE,
            "When an embedded broker confirms a persistent message: once it outlives the stack's process, "
            "once it is on disk, or at once; then nothing outlives the stack.",
        ),
        Key(
            "management",
            BOOLEAN,
            "Whether an embedded broker serves RabbitMQ's management API, on loopback. Where its port is "
            "taken, there is none, and the log says so.",
        ),
        Key("management_port", PORT, "The port of the management API; 0 chooses a free one."),
        Key(
            "definitions",
            FILE,
            "RabbitMQ's definitions for a broker that the stack runs, as `rabbitmqctl export_definitions` "
            "writes them: users, virtual hosts, permissions, policies, queues, exchanges, bindings. `msctl "
            "reload` reads the file again for an embedded broker; a RabbitMQ reads it at its start.",
        ),
        Key("tls", AMQPS, "AMQPS for an embedded broker. Renewed files are used without a restart."),
    ),
)

DASHBOARD = Table(
    "dashboard",
    DashboardSpec,
    on_reload(
        OnReload.REFUSE,
        Key("enabled", BOOLEAN, "Whether the page and the metrics are served."),
        Key("host", HOST, "The address on which it listens; beyond loopback it needs a password."),
        Key("port", PORT, "The port on which it listens; 0 chooses a free one."),
        Key(
            "token",
            BOOLEAN,
            "Whether the page requires the link that `up` prints; without it, every user of the machine can "
            "open the page.",
        ),
        Key("password", SECRET, "The password of the page, with any user name; put it into `.env`."),
        Key("metrics_key", SECRET, "The bearer token of `/metrics`, which is open on loopback without one."),
        Key(
            "otlp_port",
            PORT,
            "Where programs that the stack did not start send OTLP over HTTP, on loopback, if it is free; "
            "0 for nowhere.",
        ),
    ),
)

DISCOVERY = Table(
    "discovery",
    DiscoverySpec,
    on_reload(
        OnReload.REFUSE,
        Key(
            "url",
            REGISTRY_URL,
            "The registry in which stacks on several machines find each other's services: etcd or Consul. "
            "`etcds://` and `consuls://` speak TLS; `etcd://user:password@host` logs in; a cluster's "
            "addresses are separated by commas.",
        ),
        Key("token", SECRET, "Consul's ACL token; put it into `.env`."),
        Key("ca", FILE, "The authority of the registry's certificate, if it is private (PEM)."),
        Key("cert", FILE, "The certificate that is shown to the registry (PEM)."),
        Key("key", FILE, "That certificate's private key (PEM, not encrypted)."),
        Key(
            "namespace",
            NAME,
            "Only stacks of one namespace find each other's services.",
            "the project's name",
        ),
        Key(
            "advertise",
            HOST,
            "The address at which other machines reach this one.",
            "the address from which the registry is reached",
        ),
        Key("ttl", DURATION, "How long after a stack was last heard of its instances are gone."),
    ),
)

_SINGLE = (PROJECT, GATEWAY, TLS, BROKER, BROKER_TLS, DASHBOARD, DISCOVERY)
SINGLE = {tuple(table.title.split(".")): table for table in _SINGLE}
"""The tables that occur once, by their path."""
TABLES = (*(path[0] for path in SINGLE if len(path) == 1), "services")
