"""One private RabbitMQ node for a whole test session, in a thread with a loop of its own.

Tests share the node and its vhost `/`. What keeps them apart is names: a test uses exclusive queues, or
names that nobody else has (`unique`), and leaves nothing behind. A test about a name that is given, such as
the course's queue `hello`, has a vhost of its own (`own_vhost`).

The workers of pytest-xdist share one node too. The first that needs it starts it and writes its URL to a
file. Each holds a shared lock on that file while it uses the node; the one that started it stops it once
it has the lock alone. A worker that comes later finds the file empty, and starts another.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import tempfile
import threading
import urllib.request
import uuid
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from msctl.brokers.local_rabbitmq import RabbitNode
from msctl.brokers.rabbitmq_files import RabbitSettings, find_binary
from msctl.errors import BrokerError

PLUGINS = ("rabbitmq_management", "rabbitmq_consistent_hash_exchange")


@dataclass(frozen=True)
class RunningNode:
    """Where a node answers: `url` for AMQP, `management` for HTTP if it has that plugin, without a path."""

    url: str
    management: str


def unique(prefix: str = "q") -> str:
    """A name that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def require_binary() -> None:
    """Skip the test where there is no RabbitMQ; on CI, which installs it, fail instead."""
    try:
        find_binary()
    except BrokerError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have RabbitMQ: {error.message}", pytrace=False)
        pytest.skip(f"{error.message} {error.hint}")


@contextmanager
def running_node(plugins: tuple[str, ...] = ()) -> Iterator[RunningNode]:
    """A node of its own while the block runs."""
    folder = Path(tempfile.mkdtemp(prefix="msctl-rabbitmq-"))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="rabbitmq-node", daemon=True)
    thread.start()
    settings = RabbitSettings("127.0.0.1", 0, folder, plugins=plugins, statistics_ms=500)
    node = RabbitNode(settings, log=lambda level, text: None)
    try:
        url = asyncio.run_coroutine_threadsafe(node.start(), loop).result(90)
        yield RunningNode(url, f"http://127.0.0.1:{node.management_port}")
    finally:
        asyncio.run_coroutine_threadsafe(node.stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def shared_node(folder: Path) -> Iterator[RunningNode]:
    """One node for all that use the same `folder`."""
    users = folder / "rabbitmq-url"
    with (folder / "rabbitmq-lock").open("w") as lock, users.open("a+") as file, ExitStack() as node:
        fcntl.flock(lock, fcntl.LOCK_EX)
        text = users.read_text()
        running = RunningNode(*text.split()) if text else node.enter_context(running_node(PLUGINS))
        if mine := not text:
            users.write_text(f"{running.url} {running.management}")
        fcntl.flock(file, fcntl.LOCK_SH)
        fcntl.flock(lock, fcntl.LOCK_UN)
        yield running
        fcntl.flock(file, fcntl.LOCK_UN)
        if mine:
            fcntl.flock(lock, fcntl.LOCK_EX)  # nobody starts to use it while it stops
            fcntl.flock(file, fcntl.LOCK_EX)  # the others have ended
            users.write_text("")


@contextmanager
def own_vhost(node: RunningNode) -> Iterator[str]:
    """The AMQP URL of a vhost that nobody else uses, while the block runs."""
    name = unique("vhost")

    def ask(method: str) -> None:
        credentials = {"Authorization": f"Basic {b64encode(b'guest:guest').decode()}"}
        address = f"{node.management}/api/vhosts/{name}"
        request = urllib.request.Request(address, method=method, headers=credentials)
        urllib.request.urlopen(request, timeout=60).close()

    ask("PUT")
    try:
        yield urlsplit(node.url)._replace(path=f"/{name}").geturl()
    finally:
        ask("DELETE")
