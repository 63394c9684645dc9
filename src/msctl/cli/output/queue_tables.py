"""The tables of `queues peek` and `queues bindings`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msctl.cli.output.table import Column, table

if TYPE_CHECKING:
    from msctl.model.queue_messages import PeekedMessage, QueueBinding


def message_lines(messages: Sequence[PeekedMessage]) -> Iterator[str]:
    """Show each message with its routing; the body on lines of its own where it does not fit."""
    return table(
        (
            Column("BYTES", 2),
            Column("TYPE", 3),
            Column("EXCHANGE", 4),
            Column("KEY", 1),
            Column("AGAIN", 5),
            Column("BODY", below=True),
        ),
        (
            (
                str(one.size),
                one.content_type or "-",
                one.exchange or "-",
                one.routing_key or "-",
                "yes" if one.redelivered else "-",
                one.body if one.size <= len(one.body.encode()) else f"{one.body}…",
            )
            for one in messages
        ),
    )


def binding_lines(bindings: Sequence[QueueBinding]) -> Iterator[str]:
    """Show each binding; a dash for the default exchange."""
    return table(
        ("QUEUE", "EXCHANGE", "KEY", Column("ARGUMENTS", below=True)),
        (
            (
                one.queue,
                one.exchange or "-",
                one.routing_key or "-",
                " ".join(f"{name}={value}" for name, value in one.arguments.items()),
            )
            for one in bindings
        ),
    )
