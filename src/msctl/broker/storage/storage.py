"""The log as the server uses it: opens it, writes once a turn, synchronizes in a thread, reports failures.

When is a message safe? With `Durability.PROCESS`, once it is written: the kernel has it, whatever becomes of
this process; a crash of the machine can take what was written in the last second. With `Durability.DISK`,
once a synchronization that began after the write has ended. One synchronization serves all that wait, and
the next one begins when it has ended.

If a write or a synchronization fails, `problem` says so, until it succeeds: it is tried again at every
tick. A kernel may drop what it could not synchronize and report that only once, so blocks are kept until
they are synchronized, and then written again, to a new segment.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from msctl.broker.storage.folder import LogFolder
from msctl.broker.storage.log import SEGMENT_SIZE, Log
from msctl.broker.storage.records import StoredMeta
from msctl.broker.storage.recovery import LogFiles, recover
from msctl.broker.storage.replay import Replay, live_records
from msctl.broker.storage.worker import ThreadWorker, Worker
from msctl.clock import Clock
from msctl.model.snapshots import Durability, StorageSnapshot

SYNC_SECONDS = 1.0
MIB = 1024 * 1024
BACKLOG_SEGMENTS = 16
"""How many segments' bytes may wait to be written or synchronized; above that, publishers are blocked until
a quarter is left. One segment's bytes are synchronized before the second is over."""


@dataclass(frozen=True, slots=True)
class StorageSpec:
    """Where a log is kept, when a message in it is safe, and what others are told who want the same log.

    `optional` is whether the broker runs without a log if it cannot create one.
    """

    folder: Path
    durability: Durability = Durability.PROCESS
    holder: str = ""
    segment_size: int = SEGMENT_SIZE
    optional: bool = False


class Storage:
    """A log that is open, and the worker that synchronizes it.

    `post` runs a function on the thread of the event loop; `changed` is called there when `journal.durable`
    or `problem` has changed.
    """

    def __init__(
        self,
        spec: StorageSpec,
        clock: Clock,
        report: Callable[[str, str], None],
        *,
        post: Callable[[Callable[[], None]], object],
        changed: Callable[[], None],
        open_files: Callable[[Path, str], LogFiles] = LogFolder,
        start_worker: Callable[[], Worker] = ThreadWorker,
    ) -> None:
        """Open the log and read it. `open_files` locks the folder, given with the holder's name.

        Raises BrokerError, UntrustedPathError, OSError.
        """
        self.problem = ""
        self._sync_failed = False
        self._spec = spec
        self._clock = clock
        self._report = report
        self._post = post
        self._changed = changed
        self._folder = open_files(spec.folder, spec.holder)
        try:
            self.recovered = recover(self._folder, spec.segment_size)
        except BaseException:
            self._folder.close()
            raise
        replay = self.recovered.replay
        self._damaged = self.recovered.damaged
        self.journal = Log(
            self._folder,
            self.recovered.liveness,
            clock,
            last=replay.last,
            newest=self.recovered.newest,
            report=lambda text: report("error", f"the broker's log: {text}"),
            segment_size=spec.segment_size,
        )
        # The newest segment may have been created just now, or before a crash that came before the next
        # synchronization: without its name, its synchronized data is lost with the machine's power.
        self.journal.created = True
        self._meta = {
            (item.kind, item.key): (number, item.document)
            for number, item in replay.items.items()
            if isinstance(item, StoredMeta)
        }
        self._syncing = False
        self._synced = 0
        self._synced_at = clock.monotonic()
        self._behind = False
        self._worker = start_worker()
        self._count_recovered(replay)
        if self.recovered.problems:
            self.journal.adopt(live_records(replay))
        self.journal.opened()

    def _count_recovered(self, replay: Replay) -> None:
        for number, size in replay.sizes.items():
            if number in replay.items:
                self.journal.recovered_item(number, size)
        self.journal.recovered_counts(
            {number: count for number, count in replay.counts.items() if replay.has(number)}
        )
        for messages in replay.messages.values():
            size = sum(len(message[1]) + len(message[2]) for message in messages.values())
            self.journal.recovered_message(len(messages), size)

    def release_recovered(self) -> None:
        """Forget what was read, once it is in the broker."""
        self.recovered.replay = Replay()

    # --- what is stored besides queues ---

    def meta(self, kind: str) -> dict[str, bytes]:
        """The stored documents of a kind by their keys."""
        return {key: document for (of, key), (_, document) in self._meta.items() if of == kind}

    def set_meta(self, kind: str, key: str, document: bytes | None) -> None:
        """Store a document; None removes it."""
        before = self._meta.pop((kind, key), None)
        if before is not None:
            self.journal.drop(before[0])
        if document is not None:
            self._meta[kind, key] = self.journal.put_meta(kind, key, document), document

    def snapshot(self) -> StorageSnapshot:
        return StorageSnapshot(
            self._spec.durability, str(self._spec.folder), self.journal.messages, self.journal.size
        )

    # --- once a turn of the event loop ---

    @property
    def waits(self) -> bool:
        """Whether there is something for `turn` to do."""
        return not self.problem and self.journal.waiting > 0

    @property
    def stall(self) -> str:
        """Why publishers must wait: writing fails, or the disk does not keep up; else empty."""
        if self.problem or not self._behind:
            return self.problem
        return f"the log's disk does not keep up, {self._backlog // MIB} MiB wait"

    @property
    def _backlog(self) -> int:
        return self.journal.waiting + self.journal.unsynced

    def turn(self, *, tidy: bool) -> bool:
        """Write a part of what waits; return whether to be called again in the next turn.

        `tidy` allows to move entries out of old segments.
        """
        if self.problem:
            return False
        return self._write() or (tidy and self.journal.tidy())

    def tick(self) -> None:
        """Try again what has failed, and synchronize what was written a while ago."""
        if self.problem:
            self._retry()
        due = self._clock.monotonic() - self._synced_at >= SYNC_SECONDS
        if due and not self.problem and (self.journal.written > self._synced or self.journal.closing):
            self._sync()

    def _write(self) -> bool:
        journal = self.journal
        before = journal.durable, self.problem, self._behind
        try:
            more = journal.write()
        except OSError as error:
            self._fail(error)
            more = False
        else:
            self.problem = ""
        self._compare_backlog()
        if self._spec.durability is Durability.PROCESS:
            journal.durable = journal.written
            if journal.unsynced > self._spec.segment_size and not self.problem:
                self._sync()
        elif journal.written > self._synced and not self.problem:
            self._sync()
        self._remove_old()
        if before != (journal.durable, self.problem, self._behind):
            self._changed()
        return more

    def _compare_backlog(self) -> None:
        limit = BACKLOG_SEGMENTS * self._spec.segment_size
        self._behind = self._backlog > (limit // 4 if self._behind else limit)

    def _retry(self) -> None:
        if self._sync_failed:
            try:
                self.journal.start_over()
            except OSError:
                return
            self._sync_failed = False
        self._write()

    def _fail(self, error: OSError) -> None:
        reason = (error.strerror or str(error)).lower()
        self.problem = f"the log in {self._folder.path} cannot be written: {reason}"

    def _remove_old(self) -> None:
        for number in self.journal.take_doomed():
            aside = number in self._damaged
            self._worker.put(lambda number=number, aside=aside: self._remove(number, aside=aside))  # type: ignore[misc]

    def _remove(self, number: int, *, aside: bool) -> None:
        with suppress(OSError):  # it is no part of the log: the next start tries again
            if aside:
                self._folder.keep_aside(number)
            else:
                self._folder.remove(number)

    # --- synchronizing, in the worker's thread ---

    def _sync(self) -> None:
        if self._syncing:
            return
        self._syncing = True
        self._synced_at = self._clock.monotonic()
        journal = self.journal
        sealed, journal.closing = journal.closing, []
        created, journal.created = journal.created, False
        written, newest = journal.written, journal.descriptor
        self._worker.put(lambda: self._sync_files(sealed, newest, written, created=created))

    def _sync_files(self, sealed: list[int], newest: int, written: int, *, created: bool) -> None:
        failure: OSError | None = None
        try:
            for descriptor in (*sealed, newest):
                self._folder.synchronize(descriptor)
            if created:
                self._folder.sync()
        except OSError as error:
            failure = error
        for descriptor in sealed:
            self._folder.release(descriptor)
        with suppress(RuntimeError):  # the loop has ended
            self._post(lambda: self._after_sync(written, failure))

    def _after_sync(self, written: int, failure: OSError | None) -> None:
        self._syncing = False
        journal = self.journal
        if failure is not None:
            self._sync_failed = True
            self._fail(failure)
        else:
            self._synced = written
            journal.synced(written)
            self._compare_backlog()
        if self._spec.durability is Durability.DISK and failure is None:
            journal.durable = written
            if journal.written > written:
                self._sync()
        elif failure is None and journal.unsynced > self._spec.segment_size:
            self._sync()
        self._remove_old()
        self._changed()

    # --- the end ---

    def settle(self) -> None:
        """Write all that waits, and synchronize it if messages are safe only then; takes its time."""
        journal = self.journal
        try:
            journal.write(whole=True)
            if self._spec.durability is Durability.DISK:
                for descriptor in (*journal.closing, journal.descriptor):
                    self._folder.synchronize(descriptor)
        except OSError as error:
            self._fail(error)
            return
        journal.durable = journal.written
        self._changed()

    def close(self, delivered: list[int]) -> None:
        """Write and synchronize everything, and release the lock. Takes as long as the disk takes."""
        journal = self.journal
        journal.closed(delivered)
        try:
            journal.write(whole=True)
        except OSError as error:
            self._fail(error)
            self._report("warning", f"{self.problem}; what is not written is lost")
        journal.durable = journal.written
        self._remove_old()
        for descriptor in (*journal.closing, journal.descriptor):
            with suppress(OSError):
                self._folder.synchronize(descriptor)
        self.abandon()

    def abandon(self) -> None:
        """Release the lock and end, without a word in the log: for the next one as if this was killed."""
        self._worker.finish()
        for descriptor in (*self.journal.closing, self.journal.descriptor):
            self._folder.release(descriptor)
        self._folder.close()
