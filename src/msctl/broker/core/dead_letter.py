"""Dead-lettered messages: their headers, routing keys and the cycle rule. Pure.

Source: RabbitMQ's dead-letter exchanges (x-death, x-first-death-*). The cycle rule: a message that
returns to a queue without a rejection on the way is dropped.
"""

from __future__ import annotations

from typing import Any

from msctl.broker.core.messages import Message
from msctl.broker.core.queues import REJECTED
from msctl.broker.protocol.properties import EXPIRATION, Parts, headers_of, join, split, with_headers
from msctl.broker.protocol.tables import FieldValue, Table, text_field, texts
from msctl.broker.protocol.wire import split_route

X_DEATH = b"x-death"
MAX_DEATHS = 64
"""Entries of x-death above which a message is dropped as a cycle; longer headers would not fit a frame."""


def cc_keys(headers: Table) -> list[str]:
    """The additional routing keys in the CC and BCC headers."""
    return [key.decode(errors="surrogateescape") for name in (b"CC", b"BCC") for key in texts(headers, name)]


def dead_lettered(
    message: Message, reason: str, queue: str, when: float, new_key: str | None
) -> tuple[list[str], bytes, Table]:
    """The routing keys, properties and headers of `message` on its way to the dead-letter exchange.

    `when` is in epoch seconds, `new_key` is the queue's x-dead-letter-routing-key.
    """
    exchange, key = split_route(message[0])
    parts = split(message[1])
    headers = headers_of(parts) or {}
    keys = [key, *cc_keys(headers)]
    death: Table = {
        b"reason": text_field(reason),
        b"queue": text_field(queue),
        b"time": ("T", int(when)),
        b"exchange": text_field(exchange),
        b"routing-keys": ("A", [text_field(each.encode(errors="surrogateescape")) for each in keys]),
    }
    expiration = parts.pop(EXPIRATION, None)
    if expiration is not None:
        death[b"original-expiration"] = text_field(expiration[1:])
    headers = _with_death(headers, death)
    if new_key is not None:
        headers.pop(b"CC", None)
        keys = [new_key]
    renewed: Parts = with_headers(parts, headers)
    return keys, join(renewed), headers


def _with_death(headers: Table, death: Table) -> Table:
    """Increment the x-death entry of the same queue and reason, or add a new entry in front."""
    headers = dict(headers)
    kind, deaths = headers.get(X_DEATH, ("V", None))
    if kind != "A":
        if kind == "V" and deaths is None:
            headers[b"x-first-death-reason"] = death[b"reason"]
            headers[b"x-first-death-queue"] = death[b"queue"]
            headers[b"x-first-death-exchange"] = death[b"exchange"]
        deaths = []
    mine: Table = {b"count": ("l", 1), **death}
    others: list[FieldValue] = []
    for field in _grouped(deaths):
        table = field[1] if field[0] == "F" else {}
        if _same_death(table, death):
            before = table.get(b"count", ("l", 0))[1]
            mine = {**table, b"count": ("l", before + 1)}
        else:
            others.append(field)
    headers[X_DEATH] = ("A", [("F", dict(sorted(mine.items()))), *others])
    return dict(sorted(headers.items()))


def _grouped(deaths: list[FieldValue]) -> list[FieldValue]:
    """Deduplicate x-death entries by queue and reason; clients can send duplicates."""
    seen: set[tuple[Any, Any]] = set()
    kept: list[FieldValue] = []
    for field in deaths:
        if field[0] == "F":
            identity = (field[1].get(b"queue"), field[1].get(b"reason"))
            if identity in seen:
                continue
            seen.add(identity)
        kept.append(field)
    return kept


def _same_death(one: Table, other: Table) -> bool:
    return one.get(b"queue") == other.get(b"queue") and one.get(b"reason") == other.get(b"reason")


def is_cycle(queue: str, reason: str, headers: Table) -> bool:
    """Whether the message was in `queue` before and has not been rejected since."""
    if len(headers.get(X_DEATH, ("A", []))[1]) > MAX_DEATHS:
        return True
    if reason == REJECTED:
        return False
    name, rejected = text_field(queue), text_field(REJECTED)
    for kind, death in headers.get(X_DEATH, ("A", []))[1]:
        if kind != "F" or death.get(b"reason") == rejected:
            return False
        if death.get(b"queue") == name:
            return True
    return False
