"""What one publish shares with the next: its method, its plan, its bytes. No sockets.

Theory of the publish fast path. Clients mostly send the same frames again with another body, so the
result of decoding, checking and routing one publish is kept at three levels and reused as long as the
input proves that it would be the same again:

1. `PublishMethod`: the decoded arguments of a basic.publish, found by the payload's bytes. Equal bytes
   decode equally, so an entry is never stale.
2. `PublishPlan`: the checked properties, the bytes to relay and the target queues. It is valid for the
   same method object, equal property bytes and an unchanged `Routing.generation`. The user and the
   virtual host are fixed for a connection; the direct reply-to address is not, so a plan that contains
   it ends with it (`PublishHandler.set_reply_address`). The invariant: whatever can change the targets
   or a check of a publish (declare, delete, bind, unbind,
   a change of users or permissions) increments the generation.
3. `RepeatedPublish`: the raw bytes from a publish method to the first byte of its body, for a message of
   three frames: method, header, one body frame. These bytes contain the
   channel, every argument, every property and both sizes. If the input continues with the same bytes
   and a frame end follows at the right distance, it is the same publish with another body, and only
   the body is copied. If only the method frame is the same, the rest is read as one content
   (`wire.read_content`) and the plan is made anew or reused by its property bytes.

A client may write each frame by itself, so that a read brings a part of a message. If the input ends within
bytes that repeat the last publish so far, it is left until more of it comes (`Channels.holds`), as an
incomplete frame is. Nobody can tell: a publish has no effect and no answer before its last frame, except
that a message in progress counts its announced size, which is small here. Any byte that differs ends the
wait, because then the ordinary path reads it all.

What breaks it: a message in progress on the channel (`Channels.repeat` checks `idle`), a closed channel
(`Channels` forgets the repeated publish), frames of another shape (a second body frame, an empty body,
other frames in between: the input does not match, and the ordinary path reads it), a plan whose relayed
properties differ from the received ones (`PublishHandler.repeatable` refuses it), and the memory alarm
(`Channels.repeat` stops while the broker is blocked).
"""

from __future__ import annotations

from typing import NamedTuple

from msctl.broker.core.delayed import Target
from msctl.broker.protocol.properties import Properties
from msctl.broker.protocol.wire import FRAME, FRAME_OVERHEAD


class PublishMethod(NamedTuple):
    """The arguments of a basic.publish; `route` is exchange and routing key in wire encoding."""

    exchange: str
    key: str
    mandatory: bool
    immediate: bool
    route: bytes


class PublishPlan(NamedTuple):
    """All that is known of a message except its body; `raw` are the properties to relay.

    `routed` is whether a queue gets it now: an exchange that delays it is a target, but no queue. `stored`
    is whether a queue keeps it in the log.
    """

    method: PublishMethod
    properties: Properties
    raw: bytes
    targets: tuple[Target, ...]
    generation: int
    routed: bool
    stored: bool


class RepeatedPublish:
    """A publish that may be repeated: `prefix` are its bytes up to the body, `length` counts all bytes.

    `method` is its first frame alone, which repeats more often than the properties do.
    """

    __slots__ = ("channel", "length", "method", "plan", "prefix")

    def __init__(self, prefix: bytes, length: int, plan: PublishPlan) -> None:
        self.prefix = prefix
        self.method = prefix[: FRAME_OVERHEAD + FRAME.unpack_from(prefix)[2]]
        self.channel: int = FRAME.unpack_from(prefix)[1]
        self.length = length
        self.plan = plan
