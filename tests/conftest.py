"""Fixtures that tests of several folders share, and what lets them run in parallel."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import rabbitmq as support

pytest_plugins = [
    "msctl.testing",
    "tests.support.coverage_pauses",
    "tests.support.garbage",
    "tests.support.long",
    "tests.support.scheduling",
    "tests.support.course",
    "tests.support.shop",
    "tests.support.supervisor",
]

_base = pytest.StashKey[Path]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Keep the tests' folders short, and let the programs that they start have Ctrl-C.

    The path of a Unix socket has at most 103 bytes. pytest's own are
    /tmp/pytest-of-USER/pytest-N/popen-gwN/NAME_OF_THE_TEST, and $TMPDIR is long on macOS.
    A script's background jobs ignore SIGINT, and so does what they start.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.option.basetemp is None and not hasattr(config, "workerinput"):
        config.stash[_base] = Path(tempfile.mkdtemp(prefix="msctl-", dir="/tmp"))
        config.option.basetemp = str(config.stash[_base])


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remove the folders of a run that has passed."""
    base = session.config.stash.get(_base, None)
    if base is not None and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="session")
def rabbitmq_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[support.RunningNode]:
    """A real RabbitMQ that runs for this session (see tests/support/rabbitmq.py)."""
    support.require_binary()
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with support.shared_node(shared) as node:
        yield node


@pytest.fixture(scope="session")
def rabbitmq(rabbitmq_node: support.RunningNode) -> str:
    """The AMQP URL of a real RabbitMQ."""
    return rabbitmq_node.url
