"""The exchange that the gateway serves: the client's, as an upstream sees it.

An upstream gets the forwarded head, a body that is limited and may be kept for a retry, and a response
whose fields are edited on their way to the client. A hosted service serves this exchange itself; an HTTP
upstream reads from it and writes to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msctl.gateway.message.headers import Field, Fields, end_to_end
from msctl.gateway.message.response_fields import Edits
from msctl.gateway.observer import RequestSpan
from msctl.gateway.policies.deadline import Deadline
from msctl.gateway.policies.traffic import Affinity
from msctl.gateway.request.body import ForwardedBody
from msctl.gateway.request.forwarded import ForwardedHead, Plan
from msctl.gateway.request.upgrade import HostedUpgrade
from msctl.gateway.routing.route_settings import Limits, RouteSettings
from msctl.http.websocket_frames import GOING_AWAY
from msctl.model.exchange import Exchange, RawReceiver, RawStream

CLIENT_CLOSED = 499
"""The status logged and counted if the client closed the connection early; it is never sent."""

EVENT_STREAM = "event stream"
"""The deadline's stage between two events."""

FIELDS_CACHE_SIZE = 1024
"""The number of cached responses' fields at which the cache is cleared."""

_untouched: set[tuple[Field, ...]] = set()
"""Fields that need no edit but X-Request-Id. Only tuples are kept, which adapters share between responses."""


def is_event_stream(fields: Sequence[Field]) -> bool:
    """Return whether a response is an event stream, which is silent while nothing happens."""
    for name, value in fields:
        if len(name) == 12 and name.lower() == b"content-type":
            return value[:17].lower() == b"text/event-stream"
    return False


class GatewayExchange:
    """One request at the gateway.

    `received` is the exchange with the client, or with a composed document that keeps the response. `plan`,
    `request_id` and `traceparent` are set as the request is planned; `service` and `affinity` say which
    service it is for, and what ties it to an instance. `edits` is None while X-Request-Id is
    all that the gateway adds to the response. `stream_at` is when the response became a stream without an end
    (an event stream, an upgraded connection), in the deadline's time; 0 for any other. `span` is what
    the observer knows of the request that was received.
    """

    __slots__ = (
        "_sent",
        "affinity",
        "body",
        "client",
        "deadline",
        "edits",
        "head",
        "keep_alive",
        "limits",
        "plan",
        "received",
        "request_id",
        "route",
        "scheme",
        "server",
        "service",
        "settings",
        "span",
        "stream_at",
        "traceparent",
        "trusted",
        "upgraded",
    )

    head: ForwardedHead
    body: ForwardedBody
    limits: Limits
    settings: RouteSettings
    deadline: Deadline

    def __init__(self, received: Exchange) -> None:
        self.received = received
        self.plan: Plan | None = None
        self.edits: Edits | None = None
        self.request_id = ""
        self.traceparent = ""
        self.route = ""
        self.trusted = True
        self.keep_alive = True  # the service's wish; the client's connection is not its own
        self.client = received.client
        self.server = received.server
        self.scheme = received.scheme
        self.service = ""
        self.affinity: Affinity | None = None
        self.span: RequestSpan | None = None
        self._sent = 0
        self.stream_at = 0.0
        self.upgraded: HostedUpgrade | None = None

    def forward(self, plan: Plan, body: ForwardedBody, deadline: Deadline) -> None:
        """Become the exchange of an upstream."""
        self.head = plan.head
        if plan.client_address != self.client[0]:
            self.client = (plan.client_address, 0)
        self.settings = settings = plan.settings
        self.service = settings.route.service
        self.limits = settings.limits
        self.body = body
        self.deadline = deadline

    def begin_stream(self, stage: str) -> None:
        """The response is a stream: it lasts as long as it likes, and its length is nobody's latency."""
        self.stream_at = self.deadline.now()
        self.deadline.extend(self.limits.stream_idle_timeout, stage)

    @property
    def streamed(self) -> float:
        """Seconds for which the stream has lasted; 0 without one."""
        return self.deadline.now() - self.stream_at if self.stream_at else 0.0

    def tie(self, instance: str) -> None:
        """Have the response tie the client to the instance that is asked next."""
        affinity = self.affinity
        if affinity is None:
            return
        edits = self.edits or Edits(self.request_id)
        tied = affinity.cookie(self.service, instance)
        self.edits = edits._replace(tied=() if tied is None else (tied,))

    @property
    def received_target(self) -> str:
        """The target as the client sent it; of an exact route, with no paths below it, as it is forwarded."""
        plan = self.plan
        return self.head.target if plan is None or plan.settings.route.exact else plan.received_target

    @property
    def extra(self) -> Sequence[Field]:
        return (
            (b"X-Request-Id", self.request_id.encode()),
            (b"traceparent", self.traceparent.encode()),
        )

    @property
    def status(self) -> int:
        return self.received.status

    @property
    def started(self) -> bool:
        """Whether the response has begun, so that nothing else can be sent instead."""
        return self.received.status != 0

    @property
    def finished(self) -> bool:
        return self.received.finished

    @property
    def disconnected(self) -> bool:
        return self.received.disconnected

    @property
    def head_seconds(self) -> float:
        return self.received.head_seconds

    @property
    def writing_paused(self) -> bool:
        return self.received.writing_paused

    def progress(self) -> int:
        """Return the bytes transferred so far, in both directions."""
        return self._sent + self.body.received

    def on_disconnect(self, callback: Callable[[], object] | None) -> None:
        self.received.on_disconnect(callback)

    def interim(self, status: int, reason: bytes, fields: Sequence[Field]) -> None:
        self.received.interim(status, reason, end_to_end(fields))

    def start(self, status: int, reason: bytes, fields: Sequence[Field], *, length: int | None) -> None:
        if is_event_stream(fields):
            self.begin_stream(EVENT_STREAM)
        else:
            self.deadline.extend(self.limits.idle_timeout, "body")
        self.received.start(status, reason, self.edited(fields), length=length)

    def flush(self) -> None:
        self.received.flush()

    def write(self, data: bytes) -> None:
        self._sent += len(data)
        self.received.write(data)

    def finish(self, data: bytes = b"", trailers: Sequence[Field] = ()) -> None:
        self._sent += len(data)
        self.received.finish(data, trailers)

    def respond(self, status: int, reason: bytes, fields: Sequence[Field], body: bytes) -> None:
        self._sent += len(body)
        self.received.respond(status, reason, self.edited(fields), body)

    async def drain(self) -> None:
        await self.received.drain()
        self._sent += 1  # the client has read

    def abort(self) -> None:
        self.received.abort()

    def upgrade(self, fields: Fields, receiver: RawReceiver) -> RawStream:
        """Hand the connection to a hosted service."""
        upgraded = HostedUpgrade(receiver, self._moved)
        upgraded.begin(self.received.upgrade(self.edited(fields), upgraded))
        self.upgraded = upgraded
        self.deadline.closing = lambda: upgraded.send_close(GOING_AWAY)
        self.begin_stream("upgraded connection")
        return upgraded

    def _moved(self, count: int) -> None:
        self._sent += count

    def edited(self, fields: Sequence[Field]) -> Fields:
        """Return an upstream's fields as they are sent to the client."""
        if self.edits is not None:
            return self.edits.apply(fields)
        if type(fields) is not tuple:
            return Edits(self.request_id).apply(fields)
        if fields in _untouched:
            return [*fields, (b"X-Request-Id", self.request_id.encode())]
        out = Edits(self.request_id).apply(fields)
        if tuple(out[:-1]) == fields:
            if len(_untouched) >= FIELDS_CACHE_SIZE:
                _untouched.clear()
            _untouched.add(fields)
        return out
