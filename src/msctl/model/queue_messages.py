"""Messages at the head of a queue, read without consuming them, and the limits of what is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PeekedMessage:
    """A message in a queue. `body` is text, cut if `size` (in bytes) is larger."""

    body: str
    size: int
    exchange: str = ""
    routing_key: str = ""
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    redelivered: bool = False


@dataclass(frozen=True, slots=True)
class QueueBinding:
    """A binding of a queue. The default exchange's name is empty, and its key is the queue's name."""

    queue: str
    exchange: str
    routing_key: str
    arguments: Mapping[str, object] = field(default_factory=dict)


PEEK_MESSAGES = 200
"""The number of messages read."""
PEEK_BODY = 16 * 1024
"""Bytes shown of a message's body."""
PEEK_HEADERS = 32
"""The number of headers shown of a message."""
PEEK_HEADER = 256
"""Characters shown of a header."""
PEEK_BYTES = 1024 * 1024
"""About the number of bytes read in total."""
QueueLook = Sequence[tuple[bytes, PeekedMessage]]
"""The messages at the head of a queue, each with an id that is stable while it is queued."""
