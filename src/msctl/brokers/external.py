"""The `external` broker, which somebody else runs, and the queue operations of every external broker."""

from __future__ import annotations

from msctl.amqp.probe import probe
from msctl.clock import Clock
from msctl.errors import MsctlError
from msctl.model.broker_spec import BrokerSpec
from msctl.model.broker_url import redact
from msctl.model.queue_messages import QueueLook
from msctl.model.snapshots import BrokerMode, BrokerSnapshot, State

PROBE_EVERY = 2.0
"""Seconds for which a probe's answer is kept, so that `status --watch` does not probe on every frame."""


class ExternalQueues:
    """The queue operations of a broker outside this process: browsing needs AMQP, changes are refused.

    `location` and `tools` say where the queues are and what can change them.
    """

    location = "not in an embedded broker"
    tools = "the broker's own tools: rabbitmqctl purge_queue, or its management page"

    def browse(self, _queue: str) -> QueueLook | None:
        return None

    def purge(self, queue: str) -> int:
        raise self._refusal(queue)

    def delete(self, queue: str) -> int:
        raise self._refusal(queue)

    def _refusal(self, queue: str) -> MsctlError:
        return MsctlError(
            f"the queue {queue!r} is {self.location}, so msctl cannot change it", hint=f"use {self.tools}"
        )


class ExternalBroker(ExternalQueues):
    """A broker that somebody else runs. msctl probes it and never starts or stops it."""

    def __init__(self, spec: BrokerSpec, *, clock: Clock) -> None:
        self._spec = spec
        self._clock = clock
        self._answer: tuple[float, str] | None = None

    @property
    def url(self) -> str:
        return self._spec.url

    async def start(self) -> None:
        """Do nothing: clients wait for a broker that is away."""

    async def stop(self) -> None:
        """Do nothing."""

    async def snapshot(self) -> BrokerSnapshot:
        problem = await self._problem()
        return BrokerSnapshot(
            mode=BrokerMode.EXTERNAL,
            state=State.UNHEALTHY if problem else State.READY,
            url=redact(self.url),
            reason=problem,
        )

    async def _problem(self) -> str:
        """Why no AMQP server answers at the URL; empty if one does."""
        now = self._clock.monotonic()
        if self._answer is None or now - self._answer[0] >= PROBE_EVERY:
            self._answer = (now, (await probe(self.url))[1])
        return self._answer[1]
