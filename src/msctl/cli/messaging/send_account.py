"""What became of each message of one `send`, over all the connections that it took. Pure.

Messages are numbered from 1 in the order of the source. After a lost connection those without an answer are
sent again first, on the next one; a message that had arrived without its confirm then arrives twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from msctl.amqp.publisher import PublishStats, RefusedMessage


@dataclass(slots=True)
class SendAccount:
    """`unconfirmed` are the messages without an answer: number and body, in order.

    `repeated` are the numbers of those that were sent again.
    """

    sent: int = 0
    confirmed: int = 0
    refused: int = 0
    refusals: list[RefusedMessage] = field(default_factory=list)
    unconfirmed: list[tuple[int, bytes]] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)

    def sent_with(self, sent: int) -> int:
        """How many messages have been sent, when a connection has taken `sent` of them so far."""
        return self.sent + max(0, sent - len(self.unconfirmed))

    def add(self, stats: PublishStats, in_flight: Sequence[tuple[int, bytes]]) -> None:
        """Add a connection that began with `unconfirmed`, and what was in flight at its end."""
        again = self.unconfirmed

        def number(local: int) -> int:
            return again[local - 1][0] if local <= len(again) else self.sent + local - len(again)

        self.repeated += [first for first, _ in again[: stats.sent]]
        self.refusals += [replace(one, number=number(one.number)) for one in stats.refusals]
        left = [(number(local), body) for local, body in in_flight]
        self.unconfirmed = sorted([*left, *again[stats.sent :]])
        self.sent += max(0, stats.sent - len(again))
        self.confirmed += stats.confirmed
        self.refused += stats.refused

    def stats(self) -> PublishStats:
        return PublishStats(
            self.sent,
            self.confirmed,
            self.refused,
            tuple(self.refusals),
            tuple(number for number, _ in self.unconfirmed),
        )
