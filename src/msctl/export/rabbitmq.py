"""`rabbitmq`: the configuration of a RabbitMQ that replaces the embedded broker.

`definitions.json` holds virtual hosts, users, permissions, policies and what is durable of the topology:
from the running stack, or else from `broker.definitions`. Password hashes of `broker.definitions` are in
it, because RabbitMQ's own format keeps them; the password of `broker.url` is not: that user gets none.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Generator, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from msctl.export.kind import ExportKind, ExportOptions, File, Item, Notice
from msctl.model.broker_spec import BrokerSpec
from msctl.model.broker_url import BrokerUrl, parse_url
from msctl.model.project import Project

Json = dict[str, Any]

FOLDER = "/etc/rabbitmq"
"""Where the files are for RabbitMQ; the folder of its packages and of its image."""
_DEFAULTS = BrokerSpec()
_DECLARED: Json = {"durable": True, "auto_delete": False, "arguments": {}}
_BOUND: Json = {"destination_type": "queue", "routing_key": "", "arguments": {}}
_POLICY: Json = {"apply-to": "all", "priority": 0}
"""What definitions may leave out for the embedded broker, but not for RabbitMQ."""
_ALGORITHM = "rabbit_password_hashing_sha256"
_GUEST_HASH = "bXNjdGexHYS32xHMcc8hGIQL4MgtxwGqYH0aZXzjFVmDzggE"
"""Of the password "guest", which is no secret."""


def render(project: Project, options: ExportOptions) -> Iterator[Item]:
    url = parse_url(project.broker.url, any_port=True)
    declared, running = options.definitions or {}, options.running_definitions
    document = {
        "users": list(map(_hashed, _section(declared, "users"))),
        "vhosts": list(_section(running or declared, "vhosts")),
        "permissions": list(_section(declared, "permissions")),
        "topic_permissions": list(_section(declared, "topic_permissions")),
        "parameters": list(_section(running or declared, "parameters")),
        "global_parameters": list(_section(declared, "global_parameters")),
        "policies": [{**_POLICY, **each} for each in _section(running or declared, "policies")],
    }
    has_password = yield from _stack_user(document, url)
    yield from _topology(document, running or declared)
    if running is None:
        yield Notice(
            "broker",
            "no stack runs with its embedded broker: queues and exchanges are those of broker.definitions"
            if declared
            else "no stack runs with its embedded broker: no queue and no exchange is known",
        )
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    yield File("definitions.json", text, mode=0o640)
    yield File("rabbitmq.conf", "\n".join(_configuration(project.broker, url, once=not has_password)) + "\n")
    yield File("enabled_plugins", _plugins(document))


def _section(document: Mapping[str, Any], name: str) -> Sequence[Json]:
    found: Sequence[Json] = document.get(name) or ()
    return found


def _hashed(user: Json) -> Json:
    """A user with a hash in the place of a password; always the same one, so that exports are."""
    if "password" not in user:
        return user
    salt = sha256(user["name"].encode()).digest()[:4]
    digest = sha256(salt + user["password"].encode()).digest()
    kept = {key: value for key, value in user.items() if key not in ("password", "hashing_algorithm")}
    return {**kept, "password_hash": b64encode(salt + digest).decode(), "hashing_algorithm": _ALGORITHM}


def _stack_user(document: Json, url: BrokerUrl) -> Generator[Item, None, bool]:
    """Add the user and the virtual host of broker.url; return whether the user has a password."""
    if all(each["name"] != url.vhost for each in document["vhosts"]):
        document["vhosts"].append({"name": url.vhost})
    if any(each["name"] == url.user for each in document["users"]):
        return True
    is_guest = (url.user, url.password.reveal()) == ("guest", "guest")
    if is_guest and document["users"]:
        return True  # the definitions leave guest out, and RabbitMQ does not create it either
    document["users"].append(
        {
            "name": url.user,
            "password_hash": _GUEST_HASH if is_guest else "",
            "hashing_algorithm": _ALGORITHM,
            "tags": ["administrator"],
            "limits": {},
        }
    )
    document["permissions"].append(
        {"user": url.user, "vhost": url.vhost, "configure": ".*", "write": ".*", "read": ".*"}
    )
    if not is_guest:
        yield Notice(
            "broker.url",
            f"the password of user {url.user!r} is not written; set it once RabbitMQ runs: "
            f"rabbitmqctl change_password {url.user} PASSWORD",
        )
    return is_guest


def _topology(document: Json, source: Mapping[str, Any]) -> Iterator[Item]:
    """Add what is durable; the rest is declared again by its clients, as after a restart of RabbitMQ."""
    left: set[tuple[str, str, str]] = set()
    for section, kind in (("queues", "queue"), ("exchanges", "exchange")):
        kept = []
        for each in _section(source, section):
            if each.get("durable", True):
                kept.append({**_DECLARED, **each})
            else:
                left.add((each["vhost"], kind, each["name"]))
        document[section] = kept
    document["bindings"] = [
        {**_BOUND, **each}
        for each in _section(source, "bindings")
        if (each["vhost"], each.get("destination_type", "queue"), each["destination"]) not in left
        and (each["vhost"], "exchange", each["source"]) not in left
    ]
    for vhost, kind, name in sorted(left):
        yield Notice(f"{kind} {name!r} in {vhost!r}", "left out: it is not durable; its clients declare it")


def _configuration(spec: BrokerSpec, url: BrokerUrl, *, once: bool) -> Iterator[str]:
    path = f"{FOLDER}/definitions.json"
    if once:
        yield f"# Imported once, because each import removes the password of {url.user} again."
        yield "definitions.skip_if_unchanged = true"
        yield "definitions.import_backend = local_filesystem"
        yield f"definitions.local.path = {path}"
    else:
        yield f"load_definitions = {path}"
    if spec.tls.only or url.tls:
        yield "listeners.tcp = none"
    if spec.tls.enabled:
        port = url.port if url.tls else spec.tls.port
        yield f"listeners.ssl.default = {port or 5671}"
        yield f"ssl_options.certfile = {FOLDER}/cert.pem"
        yield f"ssl_options.keyfile = {FOLDER}/key.pem"
        yield from (f"ssl_options.versions.{n} = tlsv{version}" for n, version in _versions(spec))
    if spec.max_message_size != _DEFAULTS.max_message_size:
        yield f"max_message_size = {spec.max_message_size}"
    if spec.memory_limit != _DEFAULTS.memory_limit:
        yield f"vm_memory_high_watermark.absolute = {spec.memory_limit}"


def _versions(spec: BrokerSpec) -> Iterator[tuple[int, str]]:
    accepted = [version for version in ("1.3", "1.2") if version >= spec.tls.min_version.value]
    yield from enumerate(accepted, 1)


def _plugins(document: Json) -> str:
    """The management plugin, and those of the exchanges that need one."""
    types = {each.get("type") for each in document["exchanges"]}
    plugins = ["rabbitmq_management"]
    if "x-consistent-hash" in types:
        plugins.append("rabbitmq_consistent_hash_exchange")
    if "x-delayed-message" in types:
        plugins.append("rabbitmq_delayed_message_exchange")
    return f"[{','.join(plugins)}].\n"


KIND = ExportKind("rabbitmq", "definitions.json and rabbitmq.conf, for a RabbitMQ", render, folder="rabbitmq")
