"""Connections of a simulation: asyncio transports whose bytes go through memory and take virtual time.

As on TCP: bytes arrive in order, in pieces of another size than they were written in; `write` buffers, and
pauses the protocol while the peer does not read; `close` sends what is buffered and then the end; `abort`
resets. Beyond it, the other end hears of a reset only when it arrives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol

from msctl.simulation.confirms import confirm_in
from msctl.simulation.history import History
from msctl.simulation.network import Network

if TYPE_CHECKING:
    from msctl.simulation.spans import Spans

HIGH_WATER = 64 * 1024
LARGEST_PIECE = 16 * 1024


class PipeLoop(Protocol):
    """What a connection needs of its loop."""

    history: History
    network: Network
    spans: Spans | None

    def time(self) -> float: ...

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any: ...

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any: ...

    def forget_pipe(self, pipe: Pipe) -> None:
        """The connection has ended."""
        ...


class FakeSocket:
    """What libraries ask of a transport's socket: options, which have no effect here, and addresses."""

    def __init__(self, own: tuple[str, int], peer: tuple[str, int], family: int, kind: int) -> None:
        self.family = family
        self.type = kind
        self.proto = 6
        self._own = own
        self._peer = peer

    def setsockopt(self, *_: object) -> None:
        """Do nothing."""

    def getsockopt(self, *_: object) -> int:
        return 0

    def getsockname(self) -> tuple[str, int]:
        return self._own

    def getpeername(self) -> tuple[str, int]:
        return self._peer

    def fileno(self) -> int:
        return -1


class Pipe(asyncio.Transport):
    """One end of a connection. `owner` and `other` are the parties; `context` is that of the owner's code."""

    def __init__(
        self,
        loop: PipeLoop,
        owner: str,
        other: str,
        own_address: tuple[str, int],
        peer_address: tuple[str, int],
        sock: FakeSocket,
        context: Context,
    ) -> None:
        super().__init__(
            {"peername": peer_address, "sockname": own_address, "socket": sock, "sslcontext": None}
        )
        self._loop = loop
        self.owner = owner
        self.other = other
        self.context = context
        self.peer: Pipe | None = None
        self._protocol: asyncio.BaseProtocol | None = None
        self._closing = False
        self._lost = False
        self._eof_sent = False
        self._paused = False
        self._waiting: list[Callable[[], None]] = []
        """What arrived while reading was paused."""
        self._in_flight = 0
        self._writing_paused = False
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._last_arrival = 0.0

    # --- the transport's interface ---------------------------------------------------------------------

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        if self._protocol is None:
            raise RuntimeError("the transport has no protocol yet")
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._soon(self._deliver_waiting)

    def get_write_buffer_size(self) -> int:
        return self._in_flight

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = HIGH_WATER if high is None else high
        self._low = self._high // 4 if low is None else low

    def can_write_eof(self) -> bool:
        return True

    def write(self, data: Any) -> None:
        if self._closing or self._eof_sent or not data:
            return
        data = bytes(data)
        history, now = self._loop.history, self._loop.time()
        history.note(now, data)
        line = data[:200].partition(b"\r\n")[0]
        if b"HTTP/1." in line:
            shown = line.decode("latin-1")
            history.add(now, f"{self.owner} to {self.other}: {shown}")
            spans = self._loop.spans
            if spans is not None and line.startswith(b"HTTP/"):
                spans.answered(self.get_extra_info("peername"), shown)
            elif spans is not None:
                spans.requested(self.get_extra_info("sockname"), self.other, shown)
        network = self._loop.network
        if network.confirms and self.other in network.confirms:
            confirm = confirm_in(data)
            if confirm is not None and network.loses_confirm(self.other, now):
                history.add(now, f"a confirm for {self.other} is lost")
                self.cut()
                return
        self._in_flight += len(data)
        for start in range(0, len(data), LARGEST_PIECE):
            piece = data[start : start + LARGEST_PIECE]
            self._send(lambda peer, piece=piece: peer.take(piece))  # type: ignore[misc]
        self._check_high()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(bytes(part) for part in list_of_data))

    def write_eof(self) -> None:
        if not self._eof_sent and not self._closing:
            self._eof_sent = True
            self._send(lambda peer: peer.take_eof())

    def close(self) -> None:
        if self._closing:
            return
        self.write_eof()
        self._closing = True
        self._soon(self._lose, None)

    def abort(self) -> None:
        if self._lost:
            return
        self._closing = True
        self._send(lambda peer: peer.take_reset())
        self._soon(self._lose, None)

    # --- what the network does -------------------------------------------------------------------------

    def cut(self) -> None:
        """Break the connection: both ends hear of a reset."""
        for end in (self, self.peer):
            if end is not None:
                end._soon(end.take_reset)

    def take(self, data: bytes) -> None:
        """Bytes have arrived."""
        if self._closing:
            return
        if self._paused:
            self._waiting.append(lambda: self._hand_over(data))
            return
        self._hand_over(data)

    def _hand_over(self, data: bytes) -> None:
        if self.peer is not None:
            self.peer.delivered(len(data))
        protocol = self._protocol
        if isinstance(protocol, asyncio.BufferedProtocol):
            while data:
                buffer = memoryview(protocol.get_buffer(len(data)))
                size = min(len(buffer), len(data))
                buffer[:size] = data[:size]
                protocol.buffer_updated(size)
                data = data[size:]
        elif isinstance(protocol, asyncio.Protocol):
            protocol.data_received(data)

    def take_eof(self) -> None:
        """The other end sends no more."""
        if self._closing:
            return
        if self._paused:
            self._waiting.append(self.take_eof)
            return
        protocol = self._protocol
        keep = isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol) and protocol.eof_received()
        if not keep:
            self.close()

    def take_reset(self) -> None:
        """The connection is broken."""
        if not self._lost:
            self._closing = True
            self._lose(ConnectionResetError(104, "Connection reset by peer"))

    def delivered(self, size: int) -> None:
        """The other end has read this much."""
        self._in_flight -= size
        if self._writing_paused and self._in_flight <= self._low and self._protocol is not None:
            self._writing_paused = False
            if not self._lost:
                self._protocol.resume_writing()

    def _send(self, deliver: Callable[[Pipe], None]) -> None:
        peer = self.peer
        if peer is None or self._lost:
            return
        if self._loop.network.cuts(self.owner, self.other):
            self._loop.history.add(
                self._loop.time(), f"the connection of {self.owner} to {self.other} is cut"
            )
            self.cut()
            return
        at = self._loop.network.arrival(self.owner, self.other, self._loop.time())
        # Later than the piece before: timers of one moment run in any order.
        at = self._last_arrival = max(at, self._last_arrival + 1e-7)
        self._loop.call_at(at, lambda: None if peer._lost else deliver(peer), context=peer.context)

    def _soon(self, callback: Callable[..., None], *args: object) -> None:
        self._loop.call_soon(callback, *args, context=self.context)

    def _check_high(self) -> None:
        if not self._writing_paused and self._in_flight > self._high and self._protocol is not None:
            self._writing_paused = True
            self._protocol.pause_writing()

    def _deliver_waiting(self) -> None:
        while self._waiting and not self._paused and not self._lost:
            self._waiting.pop(0)()

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        self._waiting.clear()
        if self._loop.spans is not None:
            self._loop.spans.broken(self.get_extra_info("sockname"), "the connection was lost")
        self._loop.forget_pipe(self)
        if self._protocol is not None:
            self._protocol.connection_lost(error)
