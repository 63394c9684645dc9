"""Fixtures that tests of several packages share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import rabbitmq as support

pytest_plugins = ["msctl.testing"]


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[str]:
    """The AMQP URL of a real RabbitMQ that runs for this session (see tests/support/rabbitmq.py)."""
    support.require_binary()
    with support.running_node() as url:
        yield url
