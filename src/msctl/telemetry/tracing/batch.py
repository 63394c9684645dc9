"""What has ended and is still to be accounted for.

To measure a request while it is answered costs it three times what the same work costs when it is
done for many of them in one go, because each step's code has to come back into the processor's
caches. So requests are noted, and accounted for in batches, or as soon as somebody looks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

BATCH = 64
"""Notes kept before they are accounted for: well below a millisecond's work."""

T = TypeVar("T")


class Journal(Generic[T]):
    """Notes in the order in which they came. Belongs to the event loop."""

    def __init__(self, account: Callable[[list[T]], None], *, batch: int = BATCH) -> None:
        """`account` is given every note once, oldest first."""
        self._account = account
        self._batch = batch
        self._notes: list[T] = []

    def note(self, note: T) -> None:
        notes = self._notes
        notes.append(note)
        if len(notes) >= self._batch:
            self.settle()

    def settle(self) -> None:
        """Account for everything that has been noted; whoever reads the accounts calls it first."""
        if self._notes:
            notes, self._notes = self._notes, []
            self._account(notes)
