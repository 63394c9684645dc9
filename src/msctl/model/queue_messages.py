"""Messages at the head of a queue, as a person looks at them, and how much is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PeekedMessage:
    """A message as a queue holds it. `body` is text, cut where `size` (in bytes) says that there is more."""

    body: str
    size: int
    exchange: str = ""
    routing_key: str = ""
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    redelivered: bool = False


PEEK_MESSAGES = 200
"""Messages at the head of a queue that are looked at."""
PEEK_BODY = 16 * 1024
"""Bytes of a message's body that are shown."""
PEEK_HEADERS = 32
"""Headers of a message that are shown, of each so many characters:"""
PEEK_HEADER = 256
PEEK_BYTES = 1024 * 1024
"""About how many bytes of messages are looked at, all in all."""
QueueLook = Sequence[tuple[bytes, PeekedMessage]]
"""What waits at the head of a queue, each message with a mark by which it is known again."""
