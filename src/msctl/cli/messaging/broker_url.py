"""Which broker `send` and `consume` talk to: the project's, and never another project's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msctl.cli.options.global_options import GlobalOptions
from msctl.control.paths import is_locked
from msctl.control.record import read_record
from msctl.errors import NotRunningError
from msctl.model.snapshots import BrokerMode

if TYPE_CHECKING:
    from msctl.amqp.probe import AmqpServer
    from msctl.model.broker_spec import BrokerSpec

_ELSEWHERE = frozenset({BrokerMode.EXTERNAL, BrokerMode.DOCKER})


def resolve_url(url: str | None, options: GlobalOptions) -> str:
    """Return `url`, else the broker of the project's running stack, else the configured one.

    Waits for the broker of a stack that starts. Raises ConfigError, and NotRunningError where no stack
    runs and nothing but another project's broker, or nothing at all, answers at the default URL.
    """
    if url is not None:
        return url
    name, paths = options.identify()
    if is_locked(paths):
        record = read_record(paths)
        if record is None or record.broker_url is None:
            options.client().variables(None)  # answered once the broker has started
            record = read_record(paths)
        if record is not None and record.broker_url is not None:
            return record.broker_url
    import asyncio

    from msctl.amqp.probe import amqp_server
    from msctl.model.services import has_default_broker_url

    spec = options.load().project.broker
    if spec.mode in _ELSEWHERE or not has_default_broker_url(spec):
        return spec.url
    return default_url(spec, name, asyncio.run(amqp_server(spec.url)))


def default_url(spec: BrokerSpec, project: str, server: AmqpServer) -> str:
    """The default URL, if the server there belongs to no other project. Raises NotRunningError."""
    from msctl.amqp.probe import AmqpServer
    from msctl.model.broker_url import redact

    if server is AmqpServer.OTHER:
        return spec.url
    why = (
        "no AMQP server answers"
        if server is AmqpServer.NONE
        else "the broker of another project's stack answers"
    )
    raise NotRunningError(
        f"no stack is running for project {project!r}, and {why} at {redact(spec.url)}",
        hint="start the stack with: msctl up; or name a broker: --url URL",
    )
