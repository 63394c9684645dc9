"""The files, environment and program of a local RabbitMQ node. Starts nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from msctl.errors import BrokerError

NODE_NAME = "msctl@localhost"
"""The same for every node: without Erlang distribution, it only names the data folder."""

MANAGEMENT_PLUGIN = "rabbitmq_management"
DEFINITIONS = "definitions.json"

_BINARY_FOLDERS = (
    # The wrapper that Debian and Fedora install on PATH requires the system's user and folders. The
    # scripts in this folder do not.
    Path("/usr/lib/rabbitmq/bin"),
    Path("/opt/homebrew/sbin"),
    Path("/usr/local/sbin"),
    Path("/usr/sbin"),
)
_WRAPPER = Path("/usr/sbin/rabbitmq-server")


@dataclass(frozen=True, slots=True)
class RabbitSettings:
    """A node's address and files; `port` 0 asks for a free port.

    `folder` is for this node only. Durable queues and their persistent messages in it survive a
    restart; the caller removes the folder to drop them. `user` and `password` are created when the
    folder is new.
    """

    host: str
    port: int
    folder: Path
    user: str = "guest"
    password: str = "guest"  # noqa: S105 - RabbitMQ's own default, accepted on loopback alone
    start_timeout: float = 60.0
    plugins: tuple[str, ...] = ()
    """Names of plugins to enable; the management plugin listens on a free port of the same address."""
    statistics_ms: int = 5000
    """How often the management plugin's figures are collected; RabbitMQ's default."""
    vhost: str = "/"
    definitions: bytes | None = None
    """RabbitMQ's definitions, applied at each start; they must have the user and the virtual host."""


def find_binary() -> Path:
    """The `rabbitmq-server` to run. Raises BrokerError, with a hint on installing it, if none is found."""
    on_path = shutil.which("rabbitmq-server")
    if on_path is not None and Path(on_path) != _WRAPPER:
        return Path(on_path)
    for place in _BINARY_FOLDERS:
        candidate = place / "rabbitmq-server"
        if os.access(candidate, os.X_OK):
            return candidate
    raise BrokerError(
        "no rabbitmq-server found on PATH or in the folders of packages",
        hint="install it (Debian and Ubuntu: apt-get install rabbitmq-server; macOS: brew install rabbitmq), "
        'or set broker.mode = "embedded", which needs no RabbitMQ',
    )


def prepare(settings: RabbitSettings) -> dict[str, str]:
    """Create the folder and the node's configuration; return the node's environment."""
    folder = settings.folder.absolute()
    home, data, logs = folder / "home", folder / "data", folder / "log"
    for place in (folder, home, data, logs):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = folder / "rabbitmq.config"
    config.touch(mode=0o600)
    config.write_text(_config(settings), encoding="ascii")
    if settings.definitions is not None:
        document = folder / DEFINITIONS
        document.touch(mode=0o600)
        document.write_bytes(settings.definitions)
    plugins = folder / "enabled_plugins"
    plugins.write_text(f"[{','.join(settings.plugins)}].\n", encoding="ascii")
    return without_rabbitmq_variables(os.environ) | {
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        # The start script then execs the Erlang VM, so that the child is the node itself.
        "RABBITMQ_ALLOW_INPUT": "true",
        "RABBITMQ_NODENAME": NODE_NAME,
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        # Erlang terms are read directly; rabbitmq.conf would be translated at every start.
        "RABBITMQ_CONFIG_FILE": str(config),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_MNESIA_BASE": str(data),
        "RABBITMQ_LOG_BASE": str(logs),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": " ".join(_ERLANG_FLAGS),
        "ERL_CRASH_DUMP_SECONDS": "0",
    }


_ERLANG_FLAGS = (
    "-noinput",
    # With a node name given here, RabbitMQ sets up no distribution and starts no epmd. The node does not
    # listen for distribution, and a request to epmd for its port gets this number.
    f"-sname {NODE_NAME}",
    "-dist_listen false",
    "-start_epmd false",
    "-erl_epmd_port 1",
)


def without_rabbitmq_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without variables that would point the node at another node's files or ports."""
    prefixes = ("RABBITMQ_", "ERL_", "ERLANG_", "NOTIFY_SOCKET")
    return {name: value for name, value in environment.items() if not name.startswith(prefixes)}


def _config(settings: RabbitSettings) -> str:
    """`rabbitmq.config` in Erlang terms; strings are lists of numbers, so that nothing needs escaping."""
    host = ",".join(str(byte) for byte in settings.host.encode())
    user, password, vhost = (
        ",".join(map(str, text.encode())) for text in (settings.user, settings.password, settings.vhost)
    )
    load = ""
    if settings.definitions is not None:
        path = ",".join(map(str, os.fsencode(settings.folder.absolute() / DEFINITIONS)))
        load = f"  {{load_definitions, [{path}]}},\n"
    management = f", {{{MANAGEMENT_PLUGIN}, [{{tcp_config, [{{ip, [{host}]}}, {{port, 0}}]}}]}}"
    return (
        "[{rabbit, [\n"
        f"  {{tcp_listeners, [{{[{host}], {settings.port}}}]}},\n"
        f"  {{default_user, <<{user}>>}},\n"
        f"  {{default_pass, <<{password}>>}},\n"
        f"  {{default_vhost, <<{vhost}>>}},\n"
        f"{load}"
        f"  {{collect_statistics_interval, {settings.statistics_ms}}}\n"
        f"]}}{management if MANAGEMENT_PLUGIN in settings.plugins else ''}].\n"
    )
