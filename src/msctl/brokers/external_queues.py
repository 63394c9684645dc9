"""The queue verbs of a broker whose queues are not in this process, and so not msctl's to handle."""

from __future__ import annotations

from msctl.errors import MsctlError
from msctl.model.snapshots import QueueLook


class ExternalQueues:
    """What a broker's `look`, `purge` and `delete` come to there; `place` and `tools` say where that is."""

    place = "not in an embedded broker"
    tools = "the broker's own tools: rabbitmqctl purge_queue, or its management page"

    def browse(self, _queue: str) -> QueueLook | None:
        """None: only AMQP gets at them."""
        return None

    def purge(self, queue: str) -> int:
        raise self._refusal(queue)

    def delete(self, queue: str) -> int:
        raise self._refusal(queue)

    def _refusal(self, queue: str) -> MsctlError:
        return MsctlError(
            f"the queue {queue!r} is {self.place}, so msctl cannot change it", hint=f"use {self.tools}"
        )
