"""From files, variables and flags to a project: what is found, what wins, and what the errors say."""

# ruff: noqa: E501 - a message stands on one line here, as it does for its reader

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from msctl.config.reading.identify import identify
from msctl.config.reading.load import Resolved, load
from msctl.config.reading.project_ref import ProjectFile, ProjectRef, find_file
from msctl.config.render import explain, to_toml
from msctl.errors import ConfigError, ExitCode
from msctl.model.route_spec import RouteSpec
from msctl.model.service_policies import (
    Condition,
    Dependency,
    HealthSpec,
    RestartPolicy,
)
from msctl.model.service_spec import Isolation, ServiceSpec
from msctl.model.snapshots import BrokerMode, Kind
from msctl.model.tls_spec import TlsSpec, TlsVersion
from msctl.secret import Secret

APP = 'app = "shop:app"\n'
Load = Callable[..., Resolved]


@pytest.fixture
def resolve(tmp_path: Path) -> Load:
    def resolve(
        text: str,
        env: Mapping[str, str] | None = None,
        *,
        dotenv: str | None = None,
        overrides: Mapping[str, str] | None = None,
    ) -> Resolved:
        (tmp_path / "msctl.toml").write_text(text, encoding="utf-8")
        if dotenv is not None:
            (tmp_path / ".env").write_text(dotenv, encoding="utf-8")
        return load(cwd=tmp_path, env=env or {}, overrides=overrides)

    return resolve


@pytest.fixture
def service(resolve: Load) -> Callable[[str], ServiceSpec]:
    """The service `one` of a file that sets these keys beside its app."""

    def service(keys: str) -> ServiceSpec:
        app = "" if "command" in keys else APP
        found = resolve(f"[services.one]\n{app}{keys}\n[services.two]\n{APP}oneshot = true").project.service(
            "one"
        )
        assert found is not None
        return found

    return service


@pytest.fixture
def complaint(resolve: Load) -> Callable[..., ConfigError]:
    def complaint(text: str, **given: object) -> ConfigError:
        with pytest.raises(ConfigError) as caught:
            resolve(text, **given)
        assert caught.value.exit_code is ExitCode.USAGE
        return caught.value

    return complaint


# --- the built-in system ----------------------------------------------------------------------


def test_without_a_file_the_course_system_runs(tmp_path: Path) -> None:
    project = load(cwd=tmp_path, env={}).project
    assert (project.name, project.root, project.source) == ("course", None, "built-in course.toml")
    assert [spec.name for spec in project.services] == ["hello", "users", "producer", "consumer", "gateway"]
    assert [spec.port for spec in project.services] == [8080, 8081, None, None, 8080]
    routes = [route for spec in project.services for route in spec.routes]
    assert routes == [
        RouteSpec("/hello", "hello"),
        RouteSpec("/users", "users"),
        RouteSpec("/messages", "producer"),
    ]
    assert [spec.name for spec in project.services if not spec.autostart] == ["consumer"]
    assert project.gateway is not None
    assert project.broker.url == "amqp://guest:guest@localhost:5672/"


def test_every_app_of_the_course_system_is_hosted(tmp_path: Path) -> None:
    assert {spec.kind for spec in load(cwd=tmp_path, env={}).project.services} == {Kind.HOSTED}


# --- finding the file, and who the project is -------------------------------------------------


def test_the_file_of_a_folder_above_is_found(tmp_path: Path) -> None:
    (tmp_path / "msctl.toml").write_text("")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_file(below) == ProjectFile(tmp_path / "msctl.toml", found=True)
    assert load(cwd=below, env={}).project.root == tmp_path


def test_the_nearest_file_is_taken(tmp_path: Path) -> None:
    (tmp_path / "msctl.toml").write_text("")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "msctl.toml").write_text("")
    assert find_file(tmp_path / "inner") == ProjectFile(tmp_path / "inner" / "msctl.toml", found=False)


@pytest.mark.parametrize("given", ["other/my.toml", "other"])
def test_a_file_or_its_folder_can_be_given(tmp_path: Path, given: str) -> None:
    (tmp_path / "other").mkdir()
    for name in ("my.toml", "msctl.toml"):
        (tmp_path / "other" / name).write_text("")
    project = load(file=Path(given), cwd=tmp_path, env={}).project
    assert (project.root, project.name) == (tmp_path / "other", "other")


@pytest.mark.parametrize(
    ("folder", "name"),
    [("shop", "shop"), ("My Shop!", "My-Shop"), ("..x", "x"), ("日本", "日本"), ("a" * 80, "a" * 63)],
)
def test_the_name_is_the_folders_made_fit(tmp_path: Path, folder: str, name: str) -> None:
    root = tmp_path / folder
    root.mkdir()
    (root / "msctl.toml").write_text("")
    assert load(cwd=root, env={}).project.name == name


IDENTITIES: list[tuple[str | None, dict[str, str], dict[str, str]]] = [
    (None, {}, {}),
    (None, {"MSCTL_PROJECT_NAME": "other"}, {}),
    ("", {}, {}),
    ('[project]\nname = "shop"', {}, {}),
    ('[project]\nname = "${NAME}"', {"NAME": "shop"}, {}),
    ('[project]\nname = "shop"', {"MSCTL_PROJECT_NAME": "other"}, {"project.name": "third"}),
]


@pytest.mark.parametrize(("text", "env", "overrides"), IDENTITIES)
def test_identify_agrees_with_load(
    tmp_path: Path, text: str | None, env: dict[str, str], overrides: dict[str, str]
) -> None:
    if text is not None:
        (tmp_path / "msctl.toml").write_text(text)
    project = load(cwd=tmp_path, env=env, overrides=overrides).project
    identity = identify(cwd=tmp_path, env=env, overrides={**overrides, "services.x.port": "1"})
    assert identity == ProjectRef(project.name, project.root)


def test_a_project_with_a_mistake_still_has_a_name(tmp_path: Path) -> None:
    (tmp_path / "msctl.toml").write_text(
        '[project]\nname = "shop"\n[services.x]\nprot = "${NOWHERE}"\n[what]\n'
    )
    assert identify(cwd=tmp_path, env={}).name == "shop"


# --- values -----------------------------------------------------------------------------------


def test_a_service_takes_the_defaults_of_the_model(service: Callable[[str], ServiceSpec]) -> None:
    assert service("") == ServiceSpec(name="one", app="shop:app")


@pytest.mark.parametrize(
    ("keys", "field", "value"),
    [
        ("command = \"node 'a b.js' --port $PORT\"", "command", ("node", "a b.js", "--port", "$PORT")),
        ('command = ["node", "x y", 1]', "command", ("node", "x y", "1")),
        ("port = 8082", "port", 8082),
        ('port = "8082"', "port", 8082),
        ('host = "0.0.0.0"', "host", "0.0.0.0"),
        ('routes = ["/a", "/b/"]', "routes", (RouteSpec("/a", "one"), RouteSpec("/b/", "one"))),
        ('routes = "/a"', "routes", (RouteSpec("/a", "one"),)),
        (
            'routes = [{ path = "/a", exact = true, methods = ["get"], headers = { X = "1" }, hosts = ["h"] }, "/b"]',
            "routes",
            (
                RouteSpec("/a", "one", exact=True, methods=("GET",), headers={"X": "1"}, hosts=("h",)),
                RouteSpec("/b", "one"),
            ),
        ),
        ('depends_on = ["two"]', "depends_on", (Dependency("two"),)),
        ('depends_on = ["two", "two"]', "depends_on", (Dependency("two"),)),
        ('depends_on = "two"', "depends_on", (Dependency("two"),)),
        ('depends_on = { two = "completed" }', "depends_on", (Dependency("two", Condition.COMPLETED),)),
        (
            'depends_on = { two = { condition = "started", restart = true } }',
            "depends_on",
            (Dependency("two", Condition.STARTED, restart=True),),
        ),
        ("depends_on = { two = { restart = true } }", "depends_on", (Dependency("two", restart=True),)),
        ('depends_on = ["gateway"]', "depends_on", (Dependency("gateway"),)),
        ("autostart = false", "autostart", False),
        ('autostart = "no"', "autostart", False),
        ('autostart = "TRUE"', "autostart", True),
        ('replicas = 3\nisolation = "process"', "replicas", 3),
        ('isolation = "process"', "isolation", Isolation.PROCESS),
        ('health = "/healthz"', "health", "/healthz"),
        (
            'health = { http = "/up", headers = { X = "1" }, https = true, port = 1 }',
            "health",
            HealthSpec("/up", {"X": "1"}, True, 1),
        ),
        ("health = { tcp = true }", "health", HealthSpec(tcp=True)),
        ("health = { tcp = 6379, retries = 2 }", "health", HealthSpec(tcp=6379, retries=2)),
        (
            'health = { exec = "pg_isready -h \'a b\'", interval = "5s", timeout = 2, start_period = "1m" }',
            "health",
            HealthSpec(exec=("pg_isready", "-h", "a b"), interval=5.0, timeout=2.0, start_period=60.0),
        ),
        ('health = { log = "^up" }', "health", HealthSpec(log="^up")),
        ("max_restarts = 0", "max_restarts", 0),
        ('restart_window = "1m"', "restart_window", 60.0),
        ('stop_signal = "int"', "stop_signal", "SIGINT"),
        ("stop_signal = 3", "stop_signal", "SIGQUIT"),
        ('ready_log = "^up on \\\\d+$"', "ready_log", r"^up on \d+$"),
        ('restart = "always"', "restart", RestartPolicy.ALWAYS),
        ('stop_timeout = "500ms"', "stop_timeout", 0.5),
        ('stop_timeout = "10s"', "stop_timeout", 10.0),
        ('stop_timeout = "2m"', "stop_timeout", 120.0),
        ('stop_timeout = "1m30s"', "stop_timeout", 90.0),
        ('stop_timeout = "1.5"', "stop_timeout", 1.5),
        ("stop_timeout = 3", "stop_timeout", 3.0),
        ("stop_timeout = 0.25", "stop_timeout", 0.25),
        ("success_exit_codes = [3, 143]", "success_exit_codes", (3, 143)),
        ('env = { A = "x", N = 1, F = 1.5, B = true }', "env", {"A": "x", "N": "1", "F": "1.5", "B": "true"}),
        ('url = "http://[::1]:1/"', "url", "http://[::1]:1/"),
        ("oneshot = true", "oneshot", True),
        ("liveness = true", "liveness", True),
        ('start_timeout = "1h"', "start_timeout", 3600.0),
    ],
)
def test_a_key_is_read(service: Callable[[str], ServiceSpec], keys: str, field: str, value: object) -> None:
    assert getattr(service(keys), field) == value


def test_a_folder_is_taken_from_the_projects_own(
    service: Callable[[str], ServiceSpec], tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    assert service('cwd = "sub"\nisolation = "process"').cwd == tmp_path / "sub"


def test_the_gateway_is_the_last_service(resolve: Load) -> None:
    project = resolve(f'[gateway]\nport = 9000\nmax_body = "1KiB"\n[services.one]\n{APP}').project
    assert project.gateway is not None
    assert (project.gateway.port, project.gateway.max_body) == (9000, 1024)
    assert [(spec.name, spec.port) for spec in project.services] == [("one", None), ("gateway", 9000)]


def test_the_gateway_can_be_switched_off(resolve: Load) -> None:
    project = resolve("[gateway]\nenabled = false").project
    assert (project.gateway, project.services) == (None, ())


@pytest.mark.parametrize(
    ("size", "value"),
    [
        ("0", 0),
        ("16MiB", 16 * 2**20),
        ("1k", 1024),
        ("2 KB", 2000),
        ("1.5KiB", 1536),
        ("1G", 2**30),
        ("7b", 7),
    ],
)
def test_sizes(resolve: Load, size: str, value: int) -> None:
    gateway = resolve(f'[gateway]\nmax_body = "{size}"').project.gateway
    assert gateway is not None
    assert gateway.max_body == value


def test_a_variable_stands_in_any_string(resolve: Load) -> None:
    text = '[services.one]\ncommand = ["run", "${WORD} $PORT"]\nport = "${PORT:-81}"\n[services.one.env]\nA = "$${B}"'
    (one, _) = resolve(text, {"WORD": "two words"}).project.services
    assert one.command == ("run", "two words $PORT")
    assert one.port == 81
    assert one.env == {"A": "${B}"}


# --- layers -----------------------------------------------------------------------------------

FILE = f'[services.user-api]\n{APP}port = 1000\n[broker]\nurl = "amqp://file/"\n'


@pytest.mark.parametrize(
    ("dotenv", "env", "overrides", "port", "source"),
    [
        (None, {}, {}, 1000, "msctl.toml:3"),
        ("MSCTL_USER_API_PORT=1001", {}, {}, 1001, ".env:1: MSCTL_USER_API_PORT"),
        (
            "MSCTL_USER_API_PORT=1001",
            {"MSCTL_USER_API_PORT": "1002"},
            {},
            1002,
            "variable MSCTL_USER_API_PORT",
        ),
        (None, {"MSCTL_USER_API_PORT": "1002"}, {"services.user-api.port": "1003"}, 1003, "command line"),
        (None, {"MSCTL_USER_API_PORT": ""}, {}, 1000, "msctl.toml:3"),
    ],
)
def test_a_later_layer_wins(
    resolve: Load, dotenv: str | None, env: dict[str, str], overrides: dict[str, str], port: int, source: str
) -> None:
    resolved = resolve(FILE, env, dotenv=dotenv, overrides=overrides)
    assert resolved.project.services[0].port == port
    assert str(resolved.sources["services.user-api.port"]) == source


@pytest.mark.parametrize(
    ("dotenv", "env", "url"),
    [
        ("", {"AMQP_URL": "amqp://one/"}, "amqp://one/"),
        ("", {"AMQP_URL": "amqp://one/", "MSCTL_BROKER_URL": "amqp://two/"}, "amqp://two/"),
        ("MSCTL_BROKER_URL=amqp://two/", {"AMQP_URL": "amqp://one/"}, "amqp://one/"),
        ("AMQP_URL=amqp://three/", {}, "amqp://three/"),
    ],
)
def test_the_brokers_url_has_a_second_variable(
    resolve: Load, dotenv: str, env: dict[str, str], url: str
) -> None:
    assert resolve(FILE, env, dotenv=dotenv).project.broker.url == url


def test_variables_reach_every_section(resolve: Load) -> None:
    env = {
        "MSCTL_GATEWAY_PORT": "9090",
        "MSCTL_BROKER_MODE": "local",
        "MSCTL_PROJECT_NAME": "else",
        "MSCTL_USER_API_REPLICAS": "2",
        "MSCTL_USER_API_ISOLATION": "process",
        "MSCTL_USER_API_URL": "http://far:1",
        "MSCTL_USER_API_ROUTES": "/a, /b",
        "MSCTL_USER_API_SUCCESS_EXIT_CODES": "3,4",
    }
    project = resolve(FILE, env).project
    one = project.services[0]
    assert project.gateway is not None
    assert (project.gateway.port, project.broker.mode, project.name) == (9090, BrokerMode.LOCAL, "else")
    assert (one.replicas, one.isolation, one.url) == (2, Isolation.PROCESS, "http://far:1")
    assert [route.path for route in one.routes] == ["/a", "/b"]
    assert one.success_exit_codes == (3, 4)


def test_variables_of_others_are_left_alone(resolve: Load) -> None:
    env = {"MSCTL_SEND_QUEUE": "x", "MSCTL_LOG_FORMAT": "json", "MSCTL_WHATEVER": "y", "MSCTL_GATEWAY_X": "z"}
    assert resolve(FILE, env) == resolve(FILE)


def test_a_variable_that_nearly_names_a_key_is_told(resolve: Load) -> None:
    resolved = resolve(FILE, {"MSCTL_USER_API_PROT": "1", "MSCTL_SEND_QUEUE": "x"})
    assert resolved.unknown_variables == (("MSCTL_USER_API_PROT", "MSCTL_USER_API_PORT"),)


GUARDED = """
[services.one]
command = "run"
routes = [
    { path = "/a", api_key = { env = "KEYS" } },
    { path = "/b", jwt = { key_env = "TOKEN_KEY" } },
    { path = "/c", api_key = { env = "NOBODY_SET" } },
]
"""


def test_keys_of_guarded_routes_are_found_in_the_environment_and_in_the_env_file(resolve: Load) -> None:
    dotenv = "KEYS=me=from-file\nTOKEN_KEY='from file'\nOTHER=not wanted\n"
    resolved = resolve(GUARDED, {"KEYS": "me=from-environment", "PATH": "/bin"}, dotenv=dotenv)
    assert resolved.project.secrets == {
        "KEYS": Secret("me=from-environment"),
        "TOKEN_KEY": Secret("from file"),
    }
    assert "from" not in repr(resolved.project)


def test_a_project_without_guarded_routes_keeps_nothing_of_the_environment(resolve: Load) -> None:
    assert resolve(FILE, {"KEYS": "k"}, dotenv="A=b").project.secrets == {}


def test_an_env_file_can_be_given_instead(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MSCTL_GATEWAY_PORT=1")
    (tmp_path / "other.env").write_text("MSCTL_GATEWAY_PORT=2")
    (tmp_path / "msctl.toml").write_text("")
    gateway = load(cwd=tmp_path, env={}, env_file=Path("other.env")).project.gateway
    assert gateway is not None
    assert gateway.port == 2


def test_the_built_in_system_reads_no_env_file_of_where_it_is_started(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("not an env file")
    assert load(cwd=tmp_path, env={}).project.name == "course"


def test_the_origin_of_a_default(resolve: Load) -> None:
    assert str(resolve(FILE).sources["gateway.port"]) == "default"


# --- errors -----------------------------------------------------------------------------------

BAD_KEYS = [
    ("port = 70000", "port: expected a port from 0 to 65535, found 70000"),
    ("port = -1", "port: expected a port from 0 to 65535, found -1"),
    ("port = true", "port: expected a port from 0 to 65535, found true"),
    ('port = "http"', 'port: expected a port from 0 to 65535, found "http"'),
    ("replicas = 0", "replicas: expected a whole number from 1 to 1000, found 0"),
    ('autostart = "maybe"', 'autostart: expected true or false, found "maybe"'),
    ('host = ""', 'host: expected a host name or an IP address, found ""'),
    ("host = 1", "host: expected a host name or an IP address, found 1"),
    ('health = "healthz"', 'health: expected a path that starts with "/", found "healthz"'),
    ('health = "/a b"', 'health: expected a path without space, query or fragment, found "/a b"'),
    ('routes = ["/a", "b"]', 'routes[1]: expected a path that starts with "/", found "b"'),
    ('routes = ["/a/../b"]', 'routes[0]: expected a path without "." and ".." elements, found "/a/../b"'),
    (
        'routes = ["/a/%2E%2e/b"]',
        'routes[0]: expected a path without "." and ".." elements, found "/a/%2E%2e/b"',
    ),
    ('routes = ["/100%"]', 'routes[0]: expected two hex digits after each "%" of a path, found "/100%"'),
    (
        "routes = 1",
        'routes: expected a list of paths such as ["/orders"], or of tables with a "path", found 1',
    ),
    ("routes = [1]", "routes[0]: expected a table, found 1"),
    ("routes = [{ exact = true }]", 'routes[0]: expected the key "path", a path that starts with "/"'),
    (
        'routes = [{ path = "/a", methods = ["FOO"] }]',
        'routes[0].methods[0]: expected the name of a method of HTTP, found "FOO"',
    ),
    (
        'routes = [{ path = "/a", headers = [] }]',
        "routes[0].headers: expected a table of header names and values, found an empty list",
    ),
    (
        'routes = [{ path = "/a", headers = { "X Y" = "1" } }]',
        "routes[0].headers.X Y: expected the name of a header",
    ),
    (
        'routes = [{ path = "/a", headers = { X = [] } }]',
        "routes[0].headers.X: expected a string, found an empty list",
    ),
    (
        'routes = ["/a", "/a/"]',
        "routes[1]: the route '/a/' matches the same requests as the route '/a' of 'one'",
    ),
    ('depends_on = ["tow"]', 'depends_on[0]: unknown service "tow"'),
    ('depends_on = { tow = "ready" }', 'depends_on.tow: unknown service "tow"'),
    ('depends_on = ["broker"]', 'depends_on[0]: the broker is not a service; remove "broker"'),
    ("depends_on = [1]", "depends_on[0]: expected the name of a service, found 1"),
    (
        "depends_on = 1",
        "depends_on: expected a list of services, or a table from service to condition, found 1",
    ),
    (
        'depends_on = { two = "healthy" }',
        'depends_on.two: expected "started", "ready" or "completed", found "healthy"',
    ),
    ("depends_on = { two = 1 }", 'depends_on.two: expected "started", "ready" or "completed", found 1'),
    (
        'depends_on = { three = "completed" }',
        "depends_on.three: three never completes: it is not a one-shot",
    ),
    ('depends_on = ["one"]', "depends_on: services depend on each other in a cycle: one → one"),
    ('restart = "on_failure"', 'restart: expected "always", "on-failure" or "no", found "on_failure"'),
    (
        'ready_log = "("',
        'ready_log: not a regular expression: missing ), unterminated subpattern at position 0, in "("',
    ),
    (
        'stop_timeout = "ten"',
        'stop_timeout: expected a duration such as "10s", "500ms" or a number of seconds, found "ten"',
    ),
    (
        'stop_timeout = "10s5"',
        'stop_timeout: expected a duration such as "10s", "500ms" or a number of seconds, found "10s5"',
    ),
    (
        'stop_timeout = ""',
        'stop_timeout: expected a duration such as "10s", "500ms" or a number of seconds, found ""',
    ),
    (
        "stop_timeout = -1",
        'stop_timeout: expected a duration such as "10s", "500ms" or a number of seconds, found -1',
    ),
    (
        "stop_timeout = nan",
        'stop_timeout: expected a duration such as "10s", "500ms" or a number of seconds, found nan',
    ),
    (
        "stop_timeout = []",
        'stop_timeout: expected a duration such as "10s", "500ms" or a number of seconds, found an empty list',
    ),
    ("success_exit_codes = [256]", "success_exit_codes[0]: expected an exit code from 0 to 255, found 256"),
    (
        "success_exit_codes = {}",
        "success_exit_codes: expected a list of exit codes from 0 to 255, found a table",
    ),
    ('env = ["A=1"]', "env: expected a table of variables, found a list"),
    ('env = { "A B" = "1" }', "env.A B: expected the name of a variable: letters, digits and underscores"),
    ("env = { A = [1] }", "env.A: expected a string, found a list"),
    ('env = { A = "\\u0000" }', "env.A: a variable cannot hold a NUL character"),
    (
        'url = "far:1"',
        'url: expected a URL such as "http://127.0.0.1:8081", without a path, found "far:1"',
    ),
    (
        'url = "ftp://far:1"',
        'url: expected a URL such as "http://127.0.0.1:8081", without a path, found "ftp://far:1"',
    ),
    (
        'url = "http://u:secret@far:1"',
        'url: expected a URL such as "http://127.0.0.1:8081", without a path, found "http://u:***@far:1"',
    ),
    (
        'url = "http://far:70000"',
        'url: expected a URL such as "http://127.0.0.1:8081", without a path, found "http://far:70000"',
    ),
    ('app = "shop"', 'app: expected an import path such as "shop.orders:create_app", found "shop"'),
    ('cwd = "."', "cwd: a hosted service in the stack's process works in the project's folder"),
    ("replicas = 2", "replicas: a hosted service in the stack's process cannot have 2 replicas"),
    ('health = "${NOWHERE}"', "health: the variable NOWHERE is not set"),
    ('health = "${"', 'health: "${" must be followed by the name of a variable'),
    ("prot = 1", "prot: unknown key"),
    (f'health = "{"x" * 100}"', f'health: expected a path that starts with "/", found "{"x" * 60}…"'),
]


@pytest.mark.parametrize(("keys", "message"), BAD_KEYS)
def test_a_bad_value_is_named_with_its_line(
    complaint: Callable[..., ConfigError], keys: str, message: str
) -> None:
    app = "" if keys.startswith("app") else APP
    text = f"[services.three]\n{APP}[services.two]\n{APP}\n[services.one]\n{app}{keys}"
    line = text.count("\n") + 1
    assert complaint(text).message == f"msctl.toml:{line}: services.one.{message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[services.one]", "msctl.toml:1: services.one: a service needs app, command, url or static"),
        (
            '[services.a]\nurl = "http://far:1"\n[services.b]\ncommand = "x"\n'
            'depends_on = { a = "completed" }',
            "msctl.toml:5: services.b.depends_on.a: a is an external service, whose completion is unknown",
        ),
        (
            f'[services.one]\n{APP}command = "x"',
            "msctl.toml:3: services.one.command: set either app or command, not both",
        ),
        (
            '[services.one]\ncommand = ""',
            'msctl.toml:2: services.one.command: expected a command as one string, or a list of its words, found ""',
        ),
        (
            "[services.one]\ncommand = [[]]",
            "msctl.toml:2: services.one.command[0]: expected a string, found an empty list",
        ),
        (
            "[services.one]\ncommand = 1",
            "msctl.toml:2: services.one.command: expected a command as one string, or a list of its words, found 1",
        ),
        (
            '[services.one]\ncommand = "a \'b"',
            'msctl.toml:2: services.one.command: cannot be split into words: no closing quotation in "a \'b"',
        ),
        (
            '[services.one]\ncommand = "x"\nliveness = true',
            "msctl.toml:3: services.one.liveness: liveness needs a probe",
        ),
        (
            f'[services.one]\n{APP}cwd = "nowhere/"',
            "msctl.toml:3: services.one.cwd: no such folder: {root}/nowhere",
        ),
        ("[services.gateway]", 'msctl.toml:1: services.gateway: the name "gateway" is reserved'),
        ("[services.msctl]", 'msctl.toml:1: services.msctl: the name "msctl" is reserved'),
        (
            "[services.Users]",
            "msctl.toml:1: services.Users: a service name is a lower-case letter followed by lower-case letters, digits, - and _, at most 63 characters",
        ),
        (
            f"[services.a-b]\n{APP}[services.a_b]\n{APP}",
            'msctl.toml:3: services.a_b: "a-b" and "a_b" share the variable A_B_URL',
        ),
        ("[service.one]", "msctl.toml:1: service: unknown table"),
        ("services = 1", "msctl.toml:1: services: expected a table, found 1"),
        ("[services]\none = 1", "msctl.toml:2: services.one: expected a table, found 1"),
        ("[[gateway]]", "msctl.toml:1: gateway: expected a table, found a list"),
        ("\n[gateway]\nprt = 1", "msctl.toml:3: gateway.prt: unknown key"),
        (
            '[gateway]\nmax_body = "1XB"',
            'msctl.toml:2: gateway.max_body: expected a size such as "16MiB" or a number of bytes, found "1XB"',
        ),
        (
            "[gateway]\nmax_body = -1",
            'msctl.toml:2: gateway.max_body: expected a size such as "16MiB" or a number of bytes, found -1',
        ),
        (
            '[gateway]\nmax_body = "0.3"',
            'msctl.toml:2: gateway.max_body: expected a size such as "16MiB" or a number of bytes, found "0.3"',
        ),
        (
            '[broker]\nmode = "embeded"',
            'msctl.toml:2: broker.mode: expected "auto", "embedded", "external", "local" or "docker", found "embeded"',
        ),
        (
            '[broker]\nurl = "http://x"',
            "msctl.toml:2: broker.url: the broker's URL has scheme http://, expected amqp:// or amqps://",
        ),
        (
            '[broker]\nurl = "http://u:secret@x"',
            "msctl.toml:2: broker.url: the broker's URL has scheme http://, expected amqp:// or amqps://",
        ),
        (
            '[broker]\nurl = "amqp://u:secret@h:99999/"',
            "msctl.toml:2: broker.url: the broker's URL has port 99999: amqp://u@h:99999/",
        ),
        (
            '[project]\nname = "a b"',
            'msctl.toml:2: project.name: expected up to 63 letters, digits, dots, dashes and underscores, found "a b"',
        ),
        ("a = ", "msctl.toml:1:5: invalid TOML: invalid value"),
        ('a = """\n', "msctl.toml:2:1: invalid TOML: unterminated string"),
        (
            f"[services.one]\n{APP}port = 1\n[services.two]\n{APP}port = 1",
            "msctl.toml:6: services.two.port: port 1 is already used by service 'one'",
        ),
        (
            f'[services.one]\n{APP}port = 1\n[services.two]\n{APP}port = 1\nhost = "0.0.0.0"',
            "msctl.toml:6: services.two.port: port 1 is already used by service 'one'",
        ),
        (
            f"[services.one]\n{APP}port = 5672",
            "msctl.toml:3: services.one.port: port 5672 is already used by the broker",
        ),
        ("[gateway]\nport = 5672", "msctl.toml:2: gateway.port: port 5672 is already used by the broker"),
        (
            f'[services.one]\n{APP}routes = ["/a"]\n[services.two]\n{APP}routes = ["/a"]',
            "msctl.toml:6: services.two.routes[0]: the route '/a' matches the same requests as the route '/a' of 'one'",
        ),
        (
            f'[services.a]\n{APP}depends_on = ["b"]\n[services.b]\n{APP}depends_on = ["c"]\n[services.c]\n{APP}depends_on = ["b"]',
            "msctl.toml:6: services.b.depends_on: services depend on each other in a cycle: b → c → b",
        ),
    ],
)
def test_a_bad_file_is_told_with_its_line(
    complaint: Callable[..., ConfigError], tmp_path: Path, text: str, message: str
) -> None:
    assert complaint(text).message == message.replace("{root}", str(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        f"[services.one]\n{APP}port = 8080",  # shares the gateway's
        f'[services.one]\n{APP}port = 1\nhost = "127.0.0.2"\n[services.two]\n{APP}port = 1',
        f"[services.one]\n{APP}port = 0\n[services.two]\n{APP}port = 0",
        f'[services.one]\n{APP}port = 1\nurl = "http://far:1"\n[services.two]\n{APP}port = 1',
        '[services.one]\nurl = "http://far:1"',
        f'[services.one]\n{APP}port = 5672\n[broker]\nurl = "amqp://far/"',
        f'[services.one]\n{APP}routes = ["/a", {{ path = "/a", methods = ["POST"] }}]',
        f'[services.one]\n{APP}routes = ["/a", {{ path = "/a", exact = true }}]',
        f'[services.one]\n{APP}routes = ["/a", {{ path = "/a", hosts = ["h"] }}]',
    ],
)
def test_what_only_looks_like_a_clash_is_allowed(resolve: Load, text: str) -> None:
    assert resolve(text).project.services


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (f"[services.one]\n{APP}prot = 1", 'did you mean "port"?'),
        ("[service.one]", 'did you mean "services"?'),
        (
            "[broker]\nhost = 1",
            "known here: definitions, durable, management, management_port, max_message_size, memory_limit, mode, password, tls, url, username",
        ),
        (f'[services.one]\n{APP}depends_on = ["tow"]\n[services.two]\n{APP}', 'did you mean "two"?'),
        (f'[services.one]\n{APP}restart = "onfailure"', 'did you mean "on-failure"?'),
        (f'[services.one]\n{APP}routes = ["orders"]', 'write "/orders"'),
        (
            "[services.gateway]",
            "call the service 'api', for example; settings of msctl's own gateway are under [gateway]",
        ),
        (
            '[services.one]\nurl = "https://far.test/api/v2"',
            'write "https://far.test" here, and rewrite = "/api/v2" in its routes',
        ),
        ('[services.one]\nurl = "far:1"', 'write "http://far:1"'),
    ],
)
def test_a_hint_says_what_to_do(complaint: Callable[..., ConfigError], text: str, hint: str) -> None:
    assert complaint(text).hint == hint


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"env": {"MSCTL_USER_API_PORT": "x"}},
            'variable MSCTL_USER_API_PORT: services.user-api.port: expected a port from 0 to 65535, found "x"',
        ),
        (
            {"dotenv": "\nMSCTL_USER_API_PORT=x"},
            ".env:2: MSCTL_USER_API_PORT: services.user-api.port: expected a port from 0 to 65535, found another "
            "value",
        ),
        ({"dotenv": "A=1\n=what"}, ".env:2: expected NAME=value"),
        (
            {"overrides": {"services.user-api.port": "x"}},
            'command line: services.user-api.port: expected a port from 0 to 65535, found "x"',
        ),
        (
            {"overrides": {"services.user-ap.port": "1"}},
            "command line: services.user-ap.port: unknown key",
        ),
    ],
)
def test_a_bad_variable_or_flag_is_named(
    resolve: Load, given: dict[str, object], message: str | None
) -> None:
    if message is None:
        assert resolve(FILE, **given).project.services
        return
    with pytest.raises(ConfigError) as caught:
        resolve(FILE, **given)
    assert caught.value.message == message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^none.toml: no such file$"):
        load(file=Path("none.toml"), cwd=tmp_path, env={})


def test_an_env_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^none.env: no such file$"):
        load(cwd=tmp_path, env={}, env_file=Path("none.env"))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "msctl.toml").mkdir()
    with pytest.raises(ConfigError, match=r"^msctl.toml: cannot be read: is a directory$"):
        load(file=tmp_path, cwd=tmp_path, env={})


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "msctl.toml").write_bytes(b"# one\n\xff = 1")
    with pytest.raises(ConfigError, match=r"^msctl.toml:2: is not UTF-8$"):
        load(cwd=tmp_path, env={})


def test_a_file_that_is_far_too_large(tmp_path: Path) -> None:
    (tmp_path / "msctl.toml").write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="larger than 4 MiB"):
        load(cwd=tmp_path, env={})


def test_a_byte_order_mark_and_windows_lines_are_read(tmp_path: Path) -> None:
    (tmp_path / "msctl.toml").write_bytes(b'\xef\xbb\xbf[project]\r\nname = "shop"\r\n')
    assert load(cwd=tmp_path, env={}).project.name == "shop"


def test_a_file_elsewhere_is_named_in_full(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "msctl.toml").write_text("[what]")
    with pytest.raises(ConfigError, match=rf"^{tmp_path}/msctl\.toml:1: what: "):
        load(cwd=tmp_path / "below", env={})


# --- a table within a table -------------------------------------------------------------------

TLS = '[gateway.tls]\ncert = "keys/cert.pem"\nkey = "/keys/key.pem"\n'


def test_a_certificates_path_is_from_the_projects_folder(resolve: Load, tmp_path: Path) -> None:
    gateway = resolve(TLS).project.gateway
    assert gateway is not None
    assert gateway.tls == TlsSpec(tmp_path / "keys" / "cert.pem", Path("/keys/key.pem"))
    assert gateway.tls.enabled


def test_each_key_of_an_inner_table_has_its_variable_and_its_origin(resolve: Load) -> None:
    variables = {"MSCTL_GATEWAY_TLS_KEY": "/other.pem", "MSCTL_GATEWAY_TLS_MIN_VERSION": "1.3"}
    found = resolve(TLS, variables, overrides={"gateway.tls.dev": "true"})
    gateway = found.project.gateway
    assert gateway is not None
    assert gateway.tls.key == Path("/other.pem")
    assert gateway.tls.min_version is TlsVersion.TLS13
    assert gateway.tls.dev
    shown = {row.key: (row.value, str(row.source)) for row in explain(found) if "gateway.tls" in row.key}
    assert shown["gateway.tls.key"] == ('"/other.pem"', "variable MSCTL_GATEWAY_TLS_KEY")
    assert shown["gateway.tls.dev"] == ("true", "command line")
    assert shown["gateway.tls.cert"][1] == "msctl.toml:2"
    assert set(shown) == {f"gateway.tls.{key}" for key in ("cert", "key", "dev", "min_version")}


def test_an_inner_table_is_written_back(resolve: Load) -> None:
    project = resolve(TLS + 'min_version = "1.3"\n').project
    assert resolve(to_toml(project)).project.gateway == project.gateway
    assert "tls" not in to_toml(resolve("").project)


def test_a_variable_of_an_inner_table_that_sets_nothing_is_told(resolve: Load) -> None:
    unknown = resolve("", {"MSCTL_GATEWAY_TLS_CERTS": "x"}).unknown_variables
    assert unknown == (("MSCTL_GATEWAY_TLS_CERTS", "MSCTL_GATEWAY_TLS_CERT"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[gateway.tls]\ncert = "a"',
            "msctl.toml:1: gateway.tls: set both cert and key, or neither",
        ),
        (
            "[gateway]\ntls = true",
            "msctl.toml:2: gateway.tls: expected a table of cert, key, dev, min_version, found true",
        ),
        ('[gateway.tls]\ncrt = "a"', "msctl.toml:2: gateway.tls.crt: unknown key"),
        (
            '[gateway.tls]\nmin_version = "1.1"',
            'msctl.toml:2: gateway.tls.min_version: expected "1.2" or "1.3", found "1.1"',
        ),
    ],
)
def test_a_mistake_in_an_inner_table_is_named(
    complaint: Callable[..., ConfigError], text: str, message: str
) -> None:
    assert complaint(text).message == message


def test_broker_url_is_marked_as_given_only_if_it_is_set(tmp_path: Path) -> None:
    (tmp_path / "msctl.toml").write_text('[project]\nname = "x"\n')
    assert not load(cwd=tmp_path, env={}).project.broker.url_given
    assert load(cwd=tmp_path, env={"AMQP_URL": "amqp://localhost/"}).project.broker.url_given
    (tmp_path / "msctl.toml").write_text('[broker]\nurl = "amqp://localhost/"\n')
    assert load(cwd=tmp_path, env={}).project.broker.url_given


def test_built_in_course_does_not_give_the_broker_url(tmp_path: Path) -> None:
    assert not load(cwd=tmp_path, env={}).project.broker.url_given


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ('health = { http = "/a", tcp = true }', "expected one of http, tcp, exec and log"),
        ("health = {}", "expected one of http, tcp, exec and log"),
        ('health = { htp = "/a" }', "health.htp: unknown key"),
        ("health = 5", "or a table, found 5"),
        ('stop_signal = "SIGNONE"', "the name of a signal"),
        ('stop_signal = "SIGCONT"', "does not ask a process to stop"),
        ("max_restarts = -1", "a whole number from 0"),
    ],
)
def test_a_probe_or_a_signal_that_makes_no_sense_is_refused(
    service: Callable[[str], ServiceSpec], keys: str, message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        service(keys)
    assert message in error.value.message


def test_only_app_of_a_project_without_routes_gets_all_requests(resolve: Load) -> None:
    found = resolve('[services.api]\napp = "main:app"\n[services.worker]\ncommand = "work"').project
    assert [(route.path, route.service) for route in found.services[0].routes] == [("/", "api")]
    assert not found.services[1].routes


@pytest.mark.parametrize(
    "text",
    [
        '[services.a]\napp = "a:app"\nport = 8081',
        '[services.a]\napp = "a:app"\n[services.b]\napp = "b:app"',
        '[services.a]\napp = "a:app"\n[services.b]\ncommand = "b"\nroutes = ["/b"]',
        '[services.a]\napp = "a:app"\n[gateway]\nenabled = false',
    ],
)
def test_app_that_something_else_reaches_or_beside_others_gets_no_route(resolve: Load, text: str) -> None:
    assert not resolve(text).project.services[0].routes
