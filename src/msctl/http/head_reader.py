"""Turns the bytes of a request head into a `RequestHead`. Does no I/O.

A head is a method, a target, a version and a block of fields, and none of them changes how another is parsed.
Clients repeat everything but the target byte for byte. So a head without its target is parsed once and
remembered; so is a whole head, once it has come twice. What is remembered depends on the bytes alone:
connections share it. Both memories are bounded in entries and bytes.

The request line is matched by one expression: a known method, a target of visible ASCII, HTTP/1.0 or 1.1.
A target has one of the four forms of RFC 9112 §3.2; what is in it is the handler's matter.

The fields are parsed by llhttp, in strict mode, through aiohttp's exported `HttpRequestParser`, which accepts
no bare LF, no folding, no space before a colon and no control character. Framing is decided here from the
fields it returns: one Content-Length of digits, or one Transfer-Encoding that is exactly `chunked`.

Why aiohttp's binding and not httptools: on one machine httptools reads a head in 0.9 to 2.3 µs, aiohttp's in
2.0 to 4.5, this module in 0.2 to 1.5 when it remembers it. So the binding decides nothing that would be
worth a dependency. Why only for the fields: aiohttp's parser drops trailers, loses what follows an upgrade to
an unknown protocol, and puts bodies into streams of asyncio.
"""

from __future__ import annotations

import re

from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError

from msctl.http import refusals
from msctl.http.limits import HttpLimits
from msctl.model.exchange import Field, RequestError, RequestHead

_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/1\.[01]\r\n")
REMEMBERED = 512
"""How many heads, with and without their targets, are remembered: a power of two."""
REMEMBERED_SIZE = 4096
"""Longer heads are parsed each time."""
_MAX_DIGITS = 18
_SLASH = ord("/")
_URL = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*://[^/?#].*")
_LOOKALIKE = re.compile(rb"content[-_]+length|transfer[-_]+encoding")


class HeadReader:
    """Reads heads under the same limits, and remembers them. One for all connections of a server."""

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self._heads: dict[bytes, RequestHead] = {}
        self._without_target: dict[bytes, RequestHead] = {}
        self._line_end = limits.request_line + len(b"\r\n")
        self._lately = [0] * REMEMBERED
        self._parser: HttpRequestParser | None = None

    def read(self, head: bytes) -> RequestHead:
        """Return the head that `head` is, up to and with its empty line; raises RequestError."""
        found = self._heads.get(head)
        if found is not None:
            return found
        match = _LINE.match(head)
        if match is None or head[match.start(2)] != _SLASH or match.end() > self._line_end:
            match = self.check_line(head)
        start, end = match.span(2)
        key = head[:start] + head[end:]
        template = self._without_target.get(key)
        if template is None:
            self.check_line(head)
            template = self._parse(match[1], head[end + 1 :])
            if template.method != "CONNECT":  # whose target depends on the method
                _remember(self._without_target, key, template)
        found = template.with_target(head[start:end].decode("ascii"))
        # Where every target differs, no head is worth remembering.
        mark = hash(head)
        place = mark & (REMEMBERED - 1)
        if self._lately[place] == mark:
            _remember(self._heads, head, found)
        else:
            self._lately[place] = mark
        return found

    def check_line(self, head: bytes) -> re.Match[bytes]:
        """Return the match of the request line at the start of `head`; raises RequestError."""
        match = _LINE.match(head)
        limit = self.limits.request_line
        if match is None or match[1] not in refusals.METHODS:
            end = head.find(b"\r\n")
            refusals.check_line_start(head[:end], limit)
            raise refusals.request_line(head[:end])
        if match.end() > self._line_end:
            raise refusals.line_too_long(limit)
        if not _has_form(match[1], match[2]):
            raise refusals.target_form()
        return match

    def _parse(self, method: bytes, rest: bytes) -> RequestHead:
        """Return a head without its target; `rest` is the version and the fields."""
        parser, limits = self._parser or self._make_parser(), self.limits
        self._parser = None
        try:
            messages, _, _ = parser.feed_data(b"GET / " + rest)
        except HttpProcessingError:
            messages = []
        if not messages:
            raise refusals.header_fields(rest[len(b"HTTP/1.1\r\n") :], limits.fields)
        message = messages[0][0]
        fields = message.raw_headers
        if len(fields) > limits.fields:
            raise refusals.too_many_fields(limits.fields)
        head = _judge(refusals.METHODS[method], (message.version[0], message.version[1]), fields)
        if head.length is None and not (head.chunked or message.upgrade or message.should_close):
            self._parser = parser  # it is between two messages, so it can be used again
        return head

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


def _remember(memory: dict[bytes, RequestHead], key: bytes, head: RequestHead) -> None:
    if len(key) <= REMEMBERED_SIZE:
        if len(memory) >= REMEMBERED:
            memory.clear()
        memory[key] = head


def _judge(method: str, version: tuple[int, int], fields: tuple[Field, ...]) -> RequestHead:
    """Return the head with these fields; raises RequestError if they contradict each other."""
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
        elif _LOOKALIKE.fullmatch(lower):
            # CGI and what follows it take an underscore for a hyphen.
            raise RequestError(400, "A field looks like Content-Length or Transfer-Encoding, but is not.")
    http11 = version > (1, 0)
    if hosts > 1 or (http11 and not hosts):
        word = "more than one" if hosts else "no"
        raise RequestError(400, f"The request has {word} Host field (RFC 9112 §3.2).")
    length, chunked = _framing(lengths, codings, version)
    has_body = chunked or bool(length)
    if http11 and any(value.lower() != b"100-continue" for value in expectations):
        raise RequestError(417, "The only supported expectation is 100-continue (RFC 9110 §10.1.1).")
    upgrade = None
    if http11 and upgrades and b"upgrade" in options and not has_body:
        upgrade = "websocket" if b"websocket" in upgrades else upgrades[0].decode("latin-1")
    return RequestHead(
        method,
        "",
        version,
        fields,
        keep_alive=b"close" not in options and (http11 or b"keep-alive" in options),
        length=length,
        chunked=chunked,
        upgrade=upgrade,
        expects_continue=http11 and bool(expectations) and has_body,
    )


def _has_form(method: bytes, target: bytes) -> bool:
    """Return whether a target has one of the forms of RFC 9112 §3.2 that go with the method."""
    if method == b"CONNECT":
        return b"/" not in target
    return (
        target.startswith(b"/")
        or _URL.fullmatch(target) is not None
        or (target == b"*" and method == b"OPTIONS")
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
