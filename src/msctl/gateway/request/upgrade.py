"""An upgraded connection between a client and a hosted service: bytes both ways, and a close of our own."""

from __future__ import annotations

from collections.abc import Callable

from msctl.http.websocket_frames import ClosingRelay
from msctl.model.exchange import RawReceiver, RawStream


class HostedUpgrade:
    """The service's stream to the client, and the client's receiver."""

    def __init__(self, receiver: RawReceiver, moved: Callable[[int], object]) -> None:
        """`receiver` is the service's; `moved` is told how many bytes were transferred."""
        self._receiver = receiver
        self._moved = moved
        self._up = ClosingRelay(receiver.data_received, masked=True)

    def begin(self, stream: RawStream) -> None:
        """Set the stream to the client."""
        self._stream = stream
        self._down = ClosingRelay(stream.write, masked=False)

    def send_close(self, code: int) -> None:
        """Send both sides a WebSocket close frame, each at its next frame boundary."""
        self._up.close(code)
        self._down.close(code)

    # --- from the client ------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._moved(len(data))
        self._up.feed(data)

    def eof_received(self) -> None:
        self._receiver.eof_received()

    # --- to the client --------------------------------------------------------------------------------

    @property
    def writing_paused(self) -> bool:
        return self._stream.writing_paused

    def write(self, data: bytes) -> None:
        self._moved(len(data))
        self._down.feed(data)

    async def drain(self) -> None:
        await self._stream.drain()

    def pause_reading(self) -> None:
        self._stream.pause_reading()

    def resume_reading(self) -> None:
        self._stream.resume_reading()

    def close(self) -> None:
        self._stream.close()

    def abort(self) -> None:
        self._stream.abort()
