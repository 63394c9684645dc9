"""Every key that msctl.toml knows: one line each, from which all else about keys follows.

Reading, hints for unknown keys, `MSCTL_*` names, `config --explain`, what `config` prints and the
reference all go by these tables. To add a key: a field in the model, with its default, and a line here.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, NamedTuple

from msctl.config.origin import Place, did_you_mean
from msctl.config.values import (
    AMQP_URL,
    APP,
    BOOLEAN,
    COMMAND,
    DURATION,
    ENVIRONMENT,
    EXIT_CODES,
    FOLDER,
    HEADERS,
    HOST,
    HOSTS,
    HTTP_URL,
    METHODS,
    NAME,
    PATTERN,
    PORT,
    REPLICAS,
    SIZE,
    URL_PATH,
    Type,
    choice,
    describe,
    items_of,
)
from msctl.errors import ConfigError
from msctl.model import (
    BrokerMode,
    BrokerSpec,
    Condition,
    Dependency,
    GatewaySpec,
    Isolation,
    Project,
    RestartPolicy,
    RouteSpec,
    ServiceSpec,
)


class Key(NamedTuple):
    """One key: its name in the file (and of the field that takes it), its type, what it is for.

    `default` is for a key that the model has no field or no fixed default for.
    """

    name: str
    type: Type
    doc: str
    default: object = None


class Section(NamedTuple):
    """The keys of one table, and the dataclass whose fields they fill."""

    title: str
    spec: type[Any]
    keys: tuple[Key, ...]

    def names(self) -> list[str]:
        return [key.name for key in self.keys]

    def key(self, name: str) -> Key | None:
        return next((key for key in self.keys if key.name == name), None)

    def default(self, key: Key) -> object:
        """What the key is when nobody sets it; None for one that then has no value."""
        for field in fields(self.spec):
            if field.name == key.name:
                if field.default is not MISSING:
                    return field.default
                if field.default_factory is not MISSING:
                    return field.default_factory()
        return key.default

    def read(self, raw: object, place: Place) -> dict[str, Any]:
        """The fields that the table sets. Raises ConfigError, also for a key that is not known."""
        if not isinstance(raw, dict):
            raise place.error(f"expected a table, found {describe(raw)}")
        for name in raw:
            if self.key(name) is None:
                raise unknown_key(place / name, self.names())
        return {
            key.name: key.type.read(raw[key.name], place / key.name) for key in self.keys if key.name in raw
        }

    def show(self, spec: object) -> dict[str, object]:
        """Every key that the spec has, as one would write it; None for one without a value."""
        shown = {}
        for key in self.keys:
            if hasattr(spec, key.name):
                value = getattr(spec, key.name)
                shown[key.name] = None if value is None else key.type.show(value)
        return shown

    def show_set(self, spec: object) -> dict[str, object]:
        """The keys that are not at their default, as one would write them."""
        return {
            name: value
            for name, value in self.show(spec).items()
            if (key := self.key(name)) is not None and getattr(spec, name) != self.default(key)
        }


def unknown_key(place: Place, known: list[str]) -> ConfigError:
    name = str(place.path[-1])
    return place.error("this key is not known", hint=did_you_mean(name, known))


def _routes(raw: object, place: Place) -> tuple[RouteSpec, ...]:
    return tuple(_route(item, place / index) for index, item in enumerate(items_of(raw)))


def _route(raw: object, place: Place) -> RouteSpec:
    service = str(place.path[1])
    if isinstance(raw, str):
        return RouteSpec(path=URL_PATH.read(raw, place), service=service)
    found = ROUTE.read(raw, place)
    if "path" not in found:
        raise place.error('expected the key "path", the path that the route takes')
    return RouteSpec(service=service, **found)


def _show_routes(routes: tuple[RouteSpec, ...]) -> object:
    return [_show_route(route) for route in routes]


def _show_route(route: RouteSpec) -> object:
    table = ROUTE.show_set(route)
    return route.path if list(table) == ["path"] else table


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
ROUTES = Type('a list of paths such as ["/orders"], or of tables with a "path"', _routes, _show_routes)
DEPENDS_ON = Type("a list of services, or a table from service to condition", _depends_on, _show_depends_on)

PROJECT = Section(
    "project",
    Project,
    (Key("name", NAME, "What the stack is called; one of a name runs at a time.", "the folder's name"),),
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
        Key("command", COMMAND, "Any program; `$PORT` and the like are set for it. Either this or `app`."),
        Key("host", HOST, "The address on which the service listens."),
        Key("port", PORT, "Its own listener; 0 takes a free one. Without it, only the gateway leads to it."),
        Key("routes", ROUTES, "What the gateway sends here."),
        Key(
            "depends_on",
            DEPENDS_ON,
            "Services that must be `started`, `ready` (the default) or `completed` first.",
        ),
        Key("autostart", BOOLEAN, "Whether a bare `msctl up` starts it."),
        Key("replicas", REPLICAS, "How many instances run."),
        Key("isolation", choice(Isolation), "Whether a hosted service runs in a process of its own."),
        Key("health", URL_PATH, "The path that answers 2xx once the service can take requests."),
        Key(
            "ready_log", PATTERN, "A regular expression: the first line of output that it finds means ready."
        ),
        Key(
            "liveness",
            BOOLEAN,
            "Whether failing `health` restarts an instance, not only takes it out of use.",
        ),
        Key("oneshot", BOOLEAN, "A job that runs once: exit 0 is its success."),
        Key("restart", choice(RestartPolicy), "When an instance that ended is started again."),
        Key("stop_timeout", DURATION, "How long it may take to stop before it is killed."),
        Key("start_timeout", DURATION, "How long it may take to become ready."),
        Key("success_exit_codes", EXIT_CODES, "Exit codes that count as success, besides 0."),
        Key("env", ENVIRONMENT, "Variables for the service, over those of the stack."),
        Key("cwd", FOLDER, "The folder that it runs in, from the project's own."),
        Key(
            "url",
            HTTP_URL,
            "Where it runs instead of here: the gateway and its dependents go to this address.",
        ),
    ),
)

ROUTE = Section(
    "services.NAME.routes",
    RouteSpec,
    (
        Key("path", URL_PATH, "The path, and all below it: `/users` takes `/users/1`, not `/userspace`."),
        Key("exact", BOOLEAN, "The path alone, and nothing below it."),
        Key("methods", METHODS, "Only these methods."),
        Key("headers", HEADERS, "Only requests that have these headers with these values."),
        Key("hosts", HOSTS, "Only requests for these hosts."),
        Key("strip_prefix", BOOLEAN, "Take the path away before the service sees the request."),
    ),
)

GATEWAY = Section(
    "gateway",
    GatewaySpec,
    (
        Key("enabled", BOOLEAN, "Whether there is a gateway.", default=True),
        Key("host", HOST, "The address on which it listens."),
        Key("port", PORT, "The port on which it listens; 0 takes a free one."),
        Key("connect_timeout", DURATION, "To connect to a service."),
        Key("response_timeout", DURATION, "Until a service has answered with its headers."),
        Key("idle_timeout", DURATION, "Without a byte in either direction."),
        Key("max_body", SIZE, "The largest request body; 0 sets no limit."),
        Key("drain_timeout", DURATION, "For requests in flight when it stops."),
    ),
)

BROKER = Section(
    "broker",
    BrokerSpec,
    (
        Key("mode", choice(BrokerMode), "Which AMQP server is used."),
        Key("url", AMQP_URL, "Where it is, for the stack, its services, `send` and `consume`."),
    ),
)

SINGLE = {section.title: section for section in (PROJECT, GATEWAY, BROKER)}
TABLES = (*SINGLE, "services")
