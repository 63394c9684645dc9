"""The broker's log over one run of the server: opened and restored, watched, closed.

It is opened and restored in a thread, before anything uses the broker. While it cannot be written, the alarm
`disk` is on and publishers wait; when it has written, the answers leave that waited for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msctl.broker.core.broker import Alarm, Broker
from msctl.broker.storage.folder import has_log
from msctl.broker.storage.restore import restore
from msctl.broker.storage.settings import Settings
from msctl.broker.storage.storage import Storage, StorageSpec
from msctl.clock import Clock
from msctl.errors import BrokerError
from msctl.garbage import collections_paused


class BrokerLog:
    """Keeps what is durable in the broker, and its settings."""

    def __init__(
        self,
        broker: Broker,
        settings: Settings,
        clock: Clock,
        *,
        flush: Callable[[], None],
        open_storage: Callable[..., Storage],
    ) -> None:
        """`flush` writes the output of the sessions. A simulation replaces `open_storage`."""
        self.storage: Storage | None = None
        """The open log."""
        self._broker = broker
        self._settings = settings
        self._clock = clock
        self._flush = flush
        self._open_storage = open_storage

    async def open(self, spec: StorageSpec) -> None:
        """Open the log and restore what it holds. Raises BrokerError or UntrustedPathError."""
        await asyncio.to_thread(self._open, spec, asyncio.get_running_loop())

    def _open(self, spec: StorageSpec, loop: asyncio.AbstractEventLoop) -> None:
        with collections_paused():
            self._restore(spec, loop)

    def _restore(self, spec: StorageSpec, loop: asyncio.AbstractEventLoop) -> None:
        def report(level: str, text: str) -> None:
            loop.call_soon_threadsafe(self._broker.log, level, text)

        try:
            storage = self.storage = self._open_storage(
                spec, self._clock, report, post=loop.call_soon_threadsafe, changed=self._changed
            )
        except OSError as error:
            if spec.optional and not has_log(spec.folder):
                reason = (error.strerror or str(error)).lower()
                report("warning", f"cannot create {spec.folder}: {reason}; all messages are kept in memory")
                return
            raise BrokerError(
                f"cannot open the broker's log in {spec.folder}: {(error.strerror or str(error)).lower()}",
                hint="set MSCTL_STATE_DIR to a folder that you can write to; or keep messages in memory: "
                "[broker] durable = false",
            ) from error
        recovered = storage.recovered
        self._broker.memory.journal = storage.journal
        problems = [*recovered.problems, *restore(self._broker, recovered.replay)]
        problems += self._settings.restore(storage)
        if recovered.cut:
            report("info", f"the broker's log ended with an incomplete block of {recovered.cut} bytes: cut")
        for problem in problems:
            report("error", f"the broker's log: {problem}")
        storage.release_recovered()

    def _changed(self) -> None:
        storage = self.storage
        if storage is not None:
            self._broker.stored(storage.journal.durable)
            if storage.stall:
                self._broker.raise_alarm(Alarm.DISK, storage.stall)
            else:
                self._broker.clear_alarm(Alarm.DISK)
            self._flush()

    async def close(self) -> None:
        """Close the log, with a note of which messages have been delivered before."""
        storage, self.storage = self.storage, None
        if storage is None:
            return
        delivered = [
            message[4]
            for vhost in self._broker.vhosts.values()
            for queue in vhost.queues.values()
            if queue.entry
            for message in queue.ready.redelivered()
            if message[4]
        ]
        await asyncio.to_thread(storage.close, delivered)
