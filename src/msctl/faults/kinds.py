"""The kinds of faults: where each applies, which options it takes. Pure.

Names follow the field: delay and abort as in Envoy and Istio, bandwidth and jitter as in Toxiproxy and
netem, kill and pause as in Chaos Mesh.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class FaultKind(StrEnum):
    """What is broken."""

    DELAY = "delay"
    ABORT = "abort"
    SLOW_BODY = "slow-body"
    TRUNCATE_BODY = "truncate-body"
    BANDWIDTH = "bandwidth"
    CONFIRM_DELAY = "confirm-delay"
    CONFIRM_LOST = "confirm-lost"
    NACK = "nack"
    MESSAGE_LOST = "message-lost"
    DUPLICATE = "duplicate"
    DELIVERY_DELAY = "delivery-delay"
    REORDER = "reorder"
    CUT = "cut"
    CHANNEL_CLOSE = "channel-close"
    CONSUMER_CANCEL = "consumer-cancel"
    MEMORY_ALARM = "memory-alarm"
    BROKER_STOP = "broker-stop"
    KILL = "kill"
    PAUSE = "pause"
    SLOW_START = "slow-start"
    FAILING_PROBE = "failing-probe"
    CLOCK_SKEW = "clock-skew"


class TargetType(StrEnum):
    """What a target names."""

    ROUTE = "route"
    SERVICE = "service"
    INSTANCE = "instance"
    QUEUE = "queue"
    EXCHANGE = "exchange"
    CONNECTION = "connection"
    BROKER = "broker"


class Place(StrEnum):
    """Which part of the stack carries a fault out."""

    HTTP = "http"
    BROKER = "broker"
    PROCESS = "process"


class KindInfo(NamedTuple):
    """One kind: `needs` are the options without which it means nothing.

    `once` kinds happen when they are added, and again only with `every`.
    """

    place: Place
    targets: tuple[TargetType, ...]
    options: frozenset[str]
    doc: str
    needs: frozenset[str] = frozenset()
    once: bool = False


_HTTP = (TargetType.ROUTE, TargetType.SERVICE, TargetType.INSTANCE)
_MESSAGES = (TargetType.QUEUE, TargetType.EXCHANGE, TargetType.CONNECTION, TargetType.BROKER)
_CONSUMERS = (TargetType.QUEUE, TargetType.CONNECTION, TargetType.BROKER)
_PROCESS = (TargetType.SERVICE, TargetType.INSTANCE)
_TIMING = frozenset({"delay", "jitter", "distribution"})
_DELAY = frozenset({"delay"})


def _http(doc: str, *options: str, needs: frozenset[str] = frozenset()) -> KindInfo:
    return KindInfo(Place.HTTP, _HTTP, frozenset({"share", "header", *options}), doc, needs)


def _broker(
    doc: str,
    targets: tuple[TargetType, ...],
    *options: str,
    needs: frozenset[str] = frozenset(),
    once: bool = False,
) -> KindInfo:
    return KindInfo(Place.BROKER, targets, frozenset(options), doc, needs, once)


def _process(doc: str, *options: str, needs: frozenset[str] = frozenset(), once: bool = False) -> KindInfo:
    return KindInfo(Place.PROCESS, _PROCESS, frozenset(options), doc, needs, once)


KINDS: Mapping[FaultKind, KindInfo] = {
    FaultKind.DELAY: _http("requests arrive later", *_TIMING, needs=_DELAY),
    FaultKind.ABORT: _http(
        "requests are answered with a status, or their connection is reset", "status", "reset", "when"
    ),
    FaultKind.SLOW_BODY: _http("the response's body arrives in small pieces", "delay", "bytes"),
    FaultKind.TRUNCATE_BODY: _http("the response ends in the middle of its body", "bytes"),
    FaultKind.BANDWIDTH: _http(
        "the response's body arrives at a limited rate", "rate", needs=frozenset({"rate"})
    ),
    FaultKind.CONFIRM_DELAY: _broker(
        "publishers wait for their confirms", _MESSAGES, "share", *_TIMING, needs=_DELAY
    ),
    FaultKind.CONFIRM_LOST: _broker("messages are stored, their confirms never sent", _MESSAGES, "share"),
    FaultKind.NACK: _broker("publishes in confirm mode are refused with a nack", _MESSAGES, "share"),
    FaultKind.MESSAGE_LOST: _broker(
        "messages vanish before they are stored and confirmed", _MESSAGES, "share"
    ),
    FaultKind.DUPLICATE: _broker("messages are stored twice", _MESSAGES, "share"),
    FaultKind.DELIVERY_DELAY: _broker(
        "consumers get messages later", _CONSUMERS, "share", *_TIMING, needs=_DELAY
    ),
    FaultKind.REORDER: _broker(
        "messages are overtaken by the ones behind them", _CONSUMERS, "share", "delay"
    ),
    FaultKind.CUT: _broker(
        "connections are reset after a number of frames",
        (TargetType.CONNECTION, TargetType.BROKER),
        "share",
        "frames",
    ),
    FaultKind.CHANNEL_CLOSE: _broker(
        "channels are closed by the broker with 406", _CONSUMERS, "share", "every", once=True
    ),
    FaultKind.CONSUMER_CANCEL: _broker(
        "consumers are cancelled by the broker", _CONSUMERS, "share", "every", once=True
    ),
    FaultKind.MEMORY_ALARM: _broker("publishers are blocked", (TargetType.BROKER,)),
    FaultKind.BROKER_STOP: _broker(
        "connections are closed with 320, and new ones refused", (TargetType.BROKER,)
    ),
    FaultKind.KILL: _process("processes get SIGKILL", "every", once=True),
    FaultKind.PAUSE: _process("processes get SIGSTOP, and SIGCONT at the end"),
    FaultKind.SLOW_START: _process("instances that start are ready later", "delay", needs=_DELAY),
    FaultKind.FAILING_PROBE: _process("health checks fail"),
    FaultKind.CLOCK_SKEW: _process(
        "programs see another time (libfaketime)", "offset", needs=frozenset({"offset"})
    ),
}
"""Every kind that there is."""
