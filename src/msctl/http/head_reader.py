"""Turns the bytes of a request head into a `RequestHead`. Does no I/O.

A head is a request line and a block of fields, and neither changes the meaning of the other, except through
the version. Clients repeat their block byte for byte while they change the target, so a block is parsed once
and remembered with the version; a head that repeats whole is remembered whole. What is remembered depends
on the bytes alone, so connections share it. Both memories are bounded in entries and bytes.

The request line is matched by one expression: a known method, a target of visible ASCII, HTTP/1.0 or 1.1.
The forms of the target (RFC 9112 §3.2) are the handler's matter.

The block is parsed by llhttp, in strict mode, through aiohttp's exported `HttpRequestParser`, which accepts
no bare LF, no folding, no space before a colon and no control character. Framing is decided here from the
fields it returns: one Content-Length of digits, or one Transfer-Encoding that is exactly `chunked`.

Why aiohttp's binding and not httptools: on one machine httptools reads a head in 0.9 to 2.3 µs, aiohttp's in
2.0 to 4.5, this module in 0.5 when it remembers the block. So the binding decides nothing that would be
worth a dependency. Why only for the block: aiohttp's parser drops trailers, loses what follows an upgrade to
an unknown protocol, and puts bodies into streams of asyncio.
"""

from __future__ import annotations

import re
from typing import Any

from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError

from msctl.http import refusals
from msctl.http.limits import HttpLimits
from msctl.model.exchange import Field, RequestError, RequestHead

_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/1\.[01]\r\n")
_VERSION_AND_CRLF = len(b"HTTP/1.1\r\n")
REMEMBERED = 1024
"""How many heads, and how many blocks, are remembered."""
REMEMBERED_SIZE = 4096
"""Longer heads and blocks are parsed each time."""
_MAX_DIGITS = 18


class _Block:
    """The fields of a head, and what they say of the message."""

    __slots__ = (
        "chunked",
        "expects_continue",
        "fields",
        "keep_alive",
        "length",
        "memo",
        "upgrade",
        "version",
    )

    def __init__(self, fields: tuple[Field, ...], version: tuple[int, int]) -> None:
        """Raises RequestError for fields that contradict each other, or name what is not supported."""
        self.fields = fields
        self.version = version
        self.memo: dict[str, Any] = {}
        lengths: list[bytes] = []
        codings: list[bytes] = []
        options: set[bytes] = set()
        upgrades: list[bytes] = []
        expectations: list[bytes] = []
        hosts = 0
        for name, value in fields:
            lower = name.lower()
            if lower == b"content-length":
                lengths.append(value)
            elif lower == b"transfer-encoding":
                codings.append(value)
            elif lower == b"connection":
                options.update(_tokens(value))
            elif lower == b"upgrade":
                upgrades += _tokens(value)
            elif lower == b"expect":
                expectations.append(value)
            elif lower == b"host":
                hosts += 1
        if hosts != 1 and (hosts or version > (1, 0)):
            word = "more than one" if hosts else "no"
            raise RequestError(400, f"The request has {word} Host field (RFC 9112 §3.2).")
        self.length, self.chunked = _framing(lengths, codings, version)
        self.keep_alive = b"close" not in options and (version > (1, 0) or b"keep-alive" in options)
        has_body = self.chunked or bool(self.length)
        self.expects_continue = False
        self.upgrade: str | None = None
        if version > (1, 0):
            if any(value.lower() != b"100-continue" for value in expectations):
                raise RequestError(417, "The only supported expectation is 100-continue (RFC 9110 §10.1.1).")
            self.expects_continue = bool(expectations) and has_body
            if upgrades and b"upgrade" in options and not has_body:
                self.upgrade = "websocket" if b"websocket" in upgrades else upgrades[0].decode("latin-1")


class HeadReader:
    """Reads heads under the same limits, and remembers them. One for all connections of a server."""

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self._heads: dict[bytes, RequestHead] = {}
        self._blocks: dict[bytes, _Block] = {}
        self._parser: HttpRequestParser | None = None

    def read(self, head: bytes) -> RequestHead:
        """Return the head that `head` is, up to and with its empty line; raises RequestError."""
        found = self._heads.get(head)
        if found is not None:
            return found
        method, target, rest = self.read_line(head)
        block = self._blocks.get(rest) or self._read_block(rest)
        found = RequestHead(
            method,
            target,
            block.version,
            block.fields,
            keep_alive=block.keep_alive,
            length=block.length,
            chunked=block.chunked,
            upgrade=block.upgrade,
            expects_continue=block.expects_continue,
        )
        found.fields_memo = block.memo
        if len(head) <= REMEMBERED_SIZE:
            if len(self._heads) >= REMEMBERED:
                self._heads.clear()
            self._heads[head] = found
        return found

    def read_line(self, head: bytes) -> tuple[str, str, bytes]:
        """Return the method, the target and what follows it, from the version on; raises RequestError."""
        match = _LINE.match(head)
        method = None if match is None else refusals.METHODS.get(match[1])
        if match is None or method is None:
            end = head.find(b"\r\n")
            refusals.check_line_start(head[:end], self.limits.request_line)
            raise refusals.request_line(head[:end])
        end = match.end()
        if end - 2 > self.limits.request_line:
            raise refusals.line_too_long(self.limits.request_line)
        return method, match[2].decode("ascii"), head[end - _VERSION_AND_CRLF :]

    def _read_block(self, rest: bytes) -> _Block:
        """Parse a version and a block of fields."""
        parser, limits = self._parser or self._make_parser(), self.limits
        self._parser = None
        try:
            messages, _, _ = parser.feed_data(b"GET / " + rest)
        except HttpProcessingError:
            messages = []
        if not messages:
            raise refusals.header_fields(rest[_VERSION_AND_CRLF:], limits.fields)
        message = messages[0][0]
        fields = message.raw_headers
        if len(fields) > limits.fields:
            raise refusals.too_many_fields(limits.fields)
        block = _Block(fields, (1, 1) if rest.startswith(b"HTTP/1.1") else (1, 0))
        if block.length is None and not (block.chunked or message.upgrade or message.should_close):
            self._parser = parser  # it is between two messages, so it can be used again
        if len(rest) <= REMEMBERED_SIZE:
            if len(self._blocks) >= REMEMBERED:
                self._blocks.clear()
            self._blocks[rest] = block
        return block

    def _make_parser(self) -> HttpRequestParser:
        head = self.limits.head
        # Without a body, it needs neither a protocol nor a loop. The Cython class takes them by position.
        return HttpRequestParser(
            None,
            None,
            head,
            max_line_size=head,
            max_field_size=head,
            max_headers=self.limits.fields,
            response_with_body=False,
            auto_decompress=False,
        )


def _framing(lengths: list[bytes], codings: list[bytes], version: tuple[int, int]) -> tuple[int | None, bool]:
    """Return the Content-Length, and whether the body is chunked (RFC 9112 §6.3)."""
    if codings:
        if lengths:
            raise RequestError(
                400, "The request has both Content-Length and Transfer-Encoding (RFC 9112 §6.3)."
            )
        if version < (1, 1):
            raise RequestError(400, "HTTP/1.0 has no Transfer-Encoding (RFC 9112 §6.1).")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise refusals.transfer_coding(codings)
        return None, True
    if not lengths:
        return None, False
    if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > _MAX_DIGITS:
        raise RequestError(400, "The Content-Length field is not a single number (RFC 9110 §8.6).")
    return int(lengths[0]), False


def _tokens(value: bytes) -> list[bytes]:
    """Return the elements of a list field in lower case."""
    return [part for element in value.split(b",") if (part := element.strip(b" \t").lower())]
