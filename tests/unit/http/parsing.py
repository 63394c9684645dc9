"""What the parser makes of some bytes, as a list of events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msctl.http.head_reader import HeadReader
from msctl.http.limits import DEFAULT_LIMITS, HttpLimits
from msctl.http.parser import RequestParser
from msctl.model.exchange import RequestError

Event = tuple[Any, ...]
Split = Iterable[bytes]


def has_arrived(parser: RequestParser) -> bool:
    return parser.complete


def events(
    pieces: Split, limits: HttpLimits = DEFAULT_LIMITS, reader: HeadReader | None = None
) -> list[Event]:
    """Return (head), body bytes and ends, or one refusal as the last event."""
    parser = RequestParser(reader or HeadReader(limits))
    seen: list[Event] = []
    body = b""
    try:
        for piece in pieces:
            parser.feed(piece)
            while True:
                if has_arrived(parser):
                    head = parser.next_head()
                    if head is None:
                        break
                    seen.append(("head", head.method, head.target, head.version, tuple(head.fields)))
                    body = b""
                    if has_arrived(parser):
                        seen.append(("end", b"", ()))
                        continue
                body += parser.next_piece()
                if not has_arrived(parser):
                    break
                seen.append(("end", body, tuple(parser.trailers)))
    except RequestError as error:
        seen.append(("refused", error.status, error.detail))
    return seen
