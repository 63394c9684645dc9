"""The parser without sockets: what it accepts, what it refuses and why, however the bytes are split."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError
from hypothesis import example, given
from hypothesis import strategies as st

from msctl.http.head_reader import REMEMBERED, REMEMBERED_SIZE, HeadReader
from msctl.http.limits import DEFAULT_LIMITS, HttpLimits
from msctl.http.parser import RequestParser
from msctl.model.exchange import RequestHead
from tests.unit.http.parsing import events

SMALL = HttpLimits(request_line=40, head=160, fields=4)


def head(*lines: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: a") -> bytes:
    return b"\r\n".join([line, *([host] if host else []), *lines, b"", b""])


def read(data: bytes, limits: HttpLimits = DEFAULT_LIMITS) -> RequestHead:
    parser = RequestParser(HeadReader(limits))
    parser.feed(data)
    found = parser.next_head()
    assert found is not None
    return found


CHUNKED = head(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.1")
POST = b"POST / HTTP/1.1"

REFUSED: list[tuple[str, bytes, int, str]] = [
    # The request line.
    ("unknown method", head(line=b"FOO / HTTP/1.1"), 501, "method"),
    ("lower-case method", head(line=b"get / HTTP/1.1"), 501, "method"),
    ("method with a control character", head(line=b"GE\x01T / HTTP/1.1"), 400, "method"),
    ("no version", head(line=b"GET /"), 400, "request line"),
    ("no target", head(line=b"GET HTTP/1.1"), 400, "request line"),
    ("two spaces", head(line=b"GET  / HTTP/1.1"), 400, "request line"),
    ("trailing space", head(line=b"GET / HTTP/1.1 "), 400, "request line"),
    ("tab for a space", head(line=b"GET\t/ HTTP/1.1"), 400, "method"),
    ("space in the target", head(line=b"GET /a b HTTP/1.1"), 400, "request line"),
    ("UTF-8 in the target", head(line="GET /café HTTP/1.1".encode()), 400, "Percent-encode"),
    ("control character in the target", head(line=b"GET /\x7f HTTP/1.1"), 400, "control"),
    ("a target without a slash", head(line=b"GET a HTTP/1.1"), 400, "target"),
    ("a query alone", head(line=b"GET ?a HTTP/1.1"), 400, "target"),
    ("an authority", head(line=b"GET a:80 HTTP/1.1"), 400, "target"),
    ("an asterisk with GET", head(line=b"GET * HTTP/1.1"), 400, "target"),
    ("a URL without a host", head(line=b"GET http:///a HTTP/1.1"), 400, "target"),
    ("a path for CONNECT", head(line=b"CONNECT http://a/ HTTP/1.1"), 400, "target"),
    ("HTTP/1.2", head(line=b"GET / HTTP/1.2"), 505, "version"),
    ("HTTP/2.0", head(line=b"GET / HTTP/2.0"), 505, "version"),
    ("HTTP/0.9", b"GET /\r\n\r\n", 400, "request line"),
    ("an overflowing version", head(line=b"GET / HTTP/4294967297.1"), 400, "version"),
    ("CRs in the version", head(line=b"GET / HTTP/\r\r1.1"), 400, "version"),
    ("LF in the request line", head(line=b"GET /\nHTTP/1.1"), 400, "LF"),
    ("separators in the method", head(line=b'G=":<>(e),[T];?" /get HTTP/1.1'), 400, "method"),
    ("a longer version", head(line=b"GET / HTTP/1.10"), 400, "version"),
    ("another protocol", head(line=b"GET / RTSP/1.0"), 400, "request line"),
    ("HTTP/2 with prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "gRPC"),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "TLS"),
    ("a space first", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "begin"),
    ("a lone CR first", b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "begin"),
    ("line ends of LF", b"GET / HTTP/1.1\nHost: a\n\n", 400, "LF"),
    ("an LF first", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "LF"),
    # Header fields.
    ("LF after a field", b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400, "LF"),
    ("LF at the end", b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400, "LF"),
    ("CR in a field", head(b"X: a\rb"), 400, "CR"),
    ("NUL in a value", head(b"X: a\0b"), 400, "control"),
    ("DEL in a value", head(b"X: a\x7fb"), 400, "control"),
    ("space before the colon", head(b"X : a"), 400, "space before its colon"),
    ("tab before the colon", head(b"X\t: a"), 400, "space before its colon"),
    ("no colon", head(b"X"), 400, "no colon"),
    ("no name", head(b": a"), 400, "name"),
    ("a name outside ASCII", head("é: a".encode()), 400, "name"),
    ("parenthesis in a name", head(b"X(y): a"), 400, "name"),
    ("folding", head(b"X: a", b" b"), 400, "folded"),
    ("folding with a tab", head(b"X: a", b"\tb"), 400, "folded"),
    ("a space after the request line", head(host=b" Host: a"), 400, "folded"),
    ("no Host", head(host=b""), 400, "no Host"),
    ("two Hosts", head(b"Host: b"), 400, "Host"),
    ("two equal Hosts", head(b"host: a"), 400, "Host"),
    ("two Hosts in HTTP/1.0", head(b"Host: b", line=b"GET / HTTP/1.0"), 400, "Host"),
    ("another expectation", head(b"Expect: 200-ok"), 417, "100-continue"),
    ("two expectations", head(b"Expect: 100-continue, x"), 417, "100-continue"),
    # Framing.
    ("both framings", head(b"Content-Length: 3", b"Transfer-Encoding: chunked", line=POST), 400, "both"),
    ("both framings, reversed", head(b"Transfer-Encoding: chunked", b"Content-Length: 3"), 400, "both"),
    ("two Content-Lengths", head(b"Content-Length: 3", b"Content-Length: 4"), 400, "single number"),
    ("two equal Content-Lengths", head(b"Content-Length: 3", b"content-length: 3"), 400, "single number"),
    ("a list of lengths", head(b"Content-Length: 3, 3"), 400, "single number"),
    ("an empty length", head(b"Content-Length:"), 400, "single number"),
    ("a signed length", head(b"Content-Length: +3"), 400, "single number"),
    ("a negative length", head(b"Content-Length: -3"), 400, "single number"),
    ("a hexadecimal length", head(b"Content-Length: 0x3"), 400, "single number"),
    ("a length with an underscore", head(b"Content-Length: 1_0"), 400, "single number"),
    ("digits of another script", head("Content-Length: ٣".encode()), 400, "single number"),
    ("a length of twenty digits", head(b"Content-Length: 18446744073709551617"), 400, "single number"),
    ("a length with a letter", head(b"Content-Length: 1Z"), 400, "single number"),
    ("a comma before chunked", head(b"Transfer-Encoding: ,chunked"), 501, "chunked"),
    ("chunked between no-break spaces", head(b"Transfer-Encoding: \xa0chunked\xa0"), 501, "chunked"),
    ("a no-break space in a name", head(b"Content-Length\x85: 3"), 400, "name"),
    ("a name and a value without a colon", head(b"Content-Length 10"), 400, "no colon"),
    ("CR and a byte for the empty line", head()[:-2] + b"\rZ" + head(), 400, "CR"),
    ("CR for the end of a field", head(b"X: a\rContent-Length: 3"), 400, "CR"),
    ("a fraction", head(b"Content-Length: 3.0"), 400, "single number"),
    ("another coding", head(b"Transfer-Encoding: gzip"), 501, "chunked"),
    ("another coding too", head(b"Transfer-Encoding: gzip, chunked"), 501, "chunked"),
    ("identity", head(b"Transfer-Encoding: identity"), 501, "chunked"),
    ("a coding like chunked", head(b"Transfer-Encoding: xchunked"), 501, "chunked"),
    ("chunked in quotes", head(b'Transfer-Encoding: "chunked"'), 501, "chunked"),
    ("chunked with a parameter", head(b"Transfer-Encoding: chunked;q=1"), 501, "chunked"),
    ("chunked not last", head(b"Transfer-Encoding: chunked, gzip"), 400, "last"),
    ("chunked twice", head(b"Transfer-Encoding: chunked, chunked"), 400, "last"),
    (
        "chunked in two fields",
        head(b"Transfer-Encoding: chunked", b"transfer-encoding: chunked"),
        400,
        "repeated",
    ),
    ("an empty coding", head(b"Transfer-Encoding:"), 400, "empty"),
    ("chunked in HTTP/1.0", head(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0"), 400, "HTTP/1.0"),
    ("an underscore in Transfer-Encoding", head(b"Transfer_Encoding: chunked"), 400, "looks like"),
    ("hyphens in Content-Length", head(b"Content--length: 3"), 400, "looks like"),
    ("a vertical tab in chunked", head(b"Transfer-Encoding: \x0bchunked"), 400, "control"),
    # Chunks.
    ("no size", CHUNKED + b"\r\n", 400, "hexadecimal"),
    ("a size with an underscore", CHUNKED + b"0_2\r\naa\r\n0\r\n\r\n", 400, "hexadecimal"),
    ("two CRs after a size", CHUNKED + b"5\r\r;ABCD\r\n0\r\n\r\n", 400, "hexadecimal"),
    ("a size with 0x", CHUNKED + b"0x1\r\na\r\n0\r\n\r\n", 400, "hexadecimal"),
    ("a signed size", CHUNKED + b"+1\r\na\r\n0\r\n\r\n", 400, "hexadecimal"),
    ("a negative size", CHUNKED + b"-1\r\na\r\n0\r\n\r\n", 400, "hexadecimal"),
    ("a space before the size", CHUNKED + b" 1\r\na\r\n0\r\n\r\n", 400, "hexadecimal"),
    ("a space after the size", CHUNKED + b"1 \r\na\r\n0\r\n\r\n", 400, "hexadecimal"),
    ("a size that overflows", CHUNKED + b"10000000000000001\r\na\r\n0\r\n\r\n", 400, "hexadecimal"),
    ("LF after a size", CHUNKED + b"1\na\r\n0\r\n\r\n", 400, "LF"),
    ("LF after a chunk", CHUNKED + b"1\r\na\n0\r\n\r\n", 400, "longer"),
    ("LF in an extension", CHUNKED + b"1;a\nb\r\na\r\n0\r\n\r\n", 400, "LF"),
    ("CR in an extension", CHUNKED + b"1;a\rb\r\na\r\n0\r\n\r\n", 400, "hexadecimal"),
    ("a chunk longer than its size", CHUNKED + b"1\r\nab\r\n0\r\n\r\n", 400, "longer"),
    ("a chunk shorter than its size", CHUNKED + b"3\r\na\r\n0\r\n\r\n", 400, "longer"),
    ("LF after the last chunk", CHUNKED + b"0\n\r\n", 400, "LF"),
    ("LF at the end of the trailers", CHUNKED + b"0\r\n\n", 400, "LF"),
    ("Content-Length in the trailers", CHUNKED + b"0\r\nContent-Length: 1\r\n\r\n", 400, "trailer"),
    ("a malformed trailer", CHUNKED + b"0\r\nX : a\r\n\r\n", 400, "trailer"),
    ("a folded trailer", CHUNKED + b"0\r\nX: a\r\n b\r\n\r\n", 400, "trailer"),
]


@pytest.mark.parametrize(("data", "status", "fragment"), [pytest.param(*r[1:], id=r[0]) for r in REFUSED])
def test_broken_rule_is_named(data: bytes, status: int, fragment: str) -> None:
    last = events([data])[-1]

    assert last[:2] == ("refused", status)
    assert fragment in last[2]


@pytest.mark.parametrize("data", [pytest.param(r[1], id=r[0]) for r in REFUSED])
def test_refusal_is_the_same_byte_by_byte(data: bytes) -> None:
    assert events(data[i : i + 1] for i in range(len(data))) == events([data])


def test_refusal_repeats_nothing_of_the_request() -> None:
    for marker in (b"<script>", b"%zz"):
        for data in (
            head(line=marker + b" / HTTP/1.1"),
            head(line=b"GET /" + marker + b" x HTTP/1.1"),
            head(marker),
            head(b"Expect: " + marker),
            head(b"Transfer-Encoding: " + marker),
            head(b"Content-Length: " + marker),
        ):
            assert marker.decode() not in events([data])[-1][2]


ACCEPTED = [
    head(),
    head(line=b"GET / HTTP/1.0", host=b""),
    head(line=b"OPTIONS * HTTP/1.1"),
    head(line=b"PROPFIND //a;b?c=d&%zz?'\" HTTP/1.1"),
    head(line=b"QUERY http://b/ HTTP/1.1"),
    head(line=b"GET http://b HTTP/1.1"),
    head(line=b"CONNECT b:443 HTTP/1.1"),
    head(b"X:", b"Y:  ", b"Z: \t a\tb \t", b"Cookie: \xe9\xff"),
    head(b"Content-Length: 0"),
    head(b"Content-Length: 010", line=POST) + b"0123456789",
    head(b"Transfer-Encoding: Chunked", line=POST) + b"00a;x=y;z\r\n0123456789\r\n0\r\n\r\n",
    CHUNKED + b"1\r\na\r\n1\r\nb\r\n0\r\nX: y \r\nZ:\r\n\r\n",
    b"\r\n\r\n" + head(),
    head() + b"\r\n" + head(line=b"GET /2 HTTP/1.1"),
    head(b"Content-Length: 3", line=POST) + b"abc" + CHUNKED + b"1\r\na\r\n0\r\n\r\n" + head(),
    head(b"Upgrade: h2c", b"Connection: upgrade, http2-settings") + head(),
    head(b"Upgrade: websocket", b"Connection: upgrade", b"Content-Length: 3", line=POST) + b"abc" + head(),
    head(b"Connection: close") + head(),
]
BODIES = [[b""]] * 9 + [
    [b"0123456789"],
    [b"0123456789"],
    [b"ab"],
    [b""],
    [b"", b""],
    [b"abc", b"a", b""],
    [b"", b""],
    [b"abc", b""],
    [b"", b""],
]


def test_accepted_requests_arrive_whole_and_in_order() -> None:
    for data, bodies in zip(ACCEPTED, BODIES, strict=True):
        seen = events([data])
        assert [event[0] for event in seen] == ["head", "end"] * len(bodies), data
        assert [event[1] for event in seen[1::2]] == bodies


@pytest.mark.parametrize(
    "prefix",
    [
        b"FOO / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: a\n",
        b"GET / HTTP/1.1\nH",
        b"\x16\x03",
        b"PRI * HTTP/2.0\r\n",
    ],
)
@pytest.mark.parametrize("before", [b"", head()[:-2] + b"A: b\r\n\r\n"])
def test_what_can_be_no_head_is_refused_at_once(before: bytes, prefix: bytes) -> None:
    assert events([before + prefix])[-1][0] == "refused"
    assert events([*before.splitlines(keepends=True), *prefix.splitlines(keepends=True)])[-1][0] == "refused"


@pytest.mark.parametrize("piece", [b"x", b"1\r\nab", b"1\r\naX", b"1;" + b"a" * 5000])
def test_what_can_be_no_chunk_is_refused_at_once(piece: bytes) -> None:
    assert events([CHUNKED, piece])[-1][0] == ("head" if piece == b"x" else "refused")


@pytest.mark.parametrize("name", ["Content-Length", "Transfer-Encoding", "HOST", "connection", "Trailer"])
def test_fields_that_frame_or_route_are_no_trailers(name: str) -> None:
    trailer = name.encode() + b": 1\r\n"
    assert events([CHUNKED + b"0\r\n" + trailer + b"\r\n"])[-1][:2] == ("refused", 400)
    assert events([CHUNKED + b"0\r\nX-" + trailer + b"\r\n"])[-1][0] == "end"


def test_trailers_are_passed_on() -> None:
    assert events([CHUNKED + b"1\r\na\r\n0\r\nX: y \r\nZ:\r\n\r\n"])[-1] == (
        "end",
        b"a",
        ((b"X", b"y"), (b"Z", b"")),
    )


def test_fields_keep_order_spelling_and_inner_spaces() -> None:
    assert read(head(b"b:1", b"A: \t2  3 \t", b"b: ")).fields == (
        (b"Host", b"a"),
        (b"b", b"1"),
        (b"A", b"2  3"),
        (b"b", b""),
    )


@pytest.mark.parametrize(
    ("line", "fields", "keep_alive"),
    [
        (b"GET / HTTP/1.1", [], True),
        (b"GET / HTTP/1.1", [b"Connection: close"], False),
        (b"GET / HTTP/1.1", [b"Connection: x", b"connection: y, Close"], False),
        (b"GET / HTTP/1.0", [], False),
        (b"GET / HTTP/1.0", [b"Connection: Keep-Alive"], True),
        (b"GET / HTTP/1.0", [b"Connection: keep-alive, close"], False),
    ],
)
def test_persistence_follows_version_and_connection(
    line: bytes, fields: list[bytes], keep_alive: bool
) -> None:
    assert read(head(*fields, line=line)).keep_alive is keep_alive


@pytest.mark.parametrize(
    ("data", "upgrade"),
    [
        (head(b"Upgrade: WebSocket", b"Connection: keep-alive, Upgrade"), "websocket"),
        (head(b"Upgrade: foo, websocket", b"Connection: upgrade"), "websocket"),
        (head(b"Upgrade: foo/2", b"Connection: upgrade"), "foo/2"),
        (head(b"Upgrade: websocket"), None),
        (head(b"Connection: upgrade"), None),
        (head(b"Upgrade: websocket", b"Connection: upgrade", line=b"GET / HTTP/1.0"), None),
        (head(b"Upgrade: websocket", b"Connection: upgrade", b"Content-Length: 1", line=POST), None),
    ],
)
def test_upgrade_wants_both_fields_and_no_body(data: bytes, upgrade: str | None) -> None:
    assert read(data).upgrade == upgrade


def test_expectation_without_a_body_is_ignored() -> None:
    assert read(head(b"Expect: 100-Continue", b"Content-Length: 1")).expects_continue
    assert not read(head(b"Expect: 100-continue")).expects_continue
    assert not read(head(b"Expect: x", line=b"POST / HTTP/1.0")).expects_continue


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (head(line=b"GET /" + b"a" * 26 + b" HTTP/1.1"), None),
        (head(line=b"GET /" + b"a" * 27 + b" HTTP/1.1"), 414),
        (b"GET /" + b"a" * 37, 414),
        (head(b"X: " + b"a" * (160 - 32)), None),
        (head(b"X: " + b"a" * (160 - 31)), 431),
        (head()[:-2] + b"X: " + b"a" * 160, 431),
        (head(b"X:", b"X:", b"X:"), None),
        (head(b"X:", b"X:", b"X:", b"X:"), 431),
        (CHUNKED + b"0\r\n" + b"X:\r\n" * 5 + b"\r\n", 431),
        (CHUNKED + b"0\r\nX: " + b"a" * 160 + b"\r\n\r\n", 431),
        (CHUNKED + b"0\r\nX: " + b"a" * 75 + b"\r\nX: " + b"a" * 75 + b"\r\n\r\n", None),
        (CHUNKED + b"0\r\nX: " + b"a" * 75 + b"\r\nX: " + b"a" * 76 + b"\r\n\r\n", 431),
    ],
)
def test_limits_hold_to_the_byte(data: bytes, status: int | None) -> None:
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        last = events(pieces, SMALL)[-1]
        assert (last[1] if last[0] == "refused" else None) == status


def test_cookie_of_9000_bytes_passes() -> None:
    cookie = b"a" * 9000
    assert read(head(b"Cookie: " + cookie)).fields[1] == (b"Cookie", cookie)


def test_chunk_extensions_are_bounded_over_the_body() -> None:
    limit = 16 * 1024
    chunk = b"1;" + b"x" * 1023 + b"\r\na\r\n"
    least = CHUNKED + chunk * 16

    assert len(chunk * 16) - 16 * len(b"1\r\na\r\n") == limit
    assert events([least + b"0\r\n\r\n"])[-1][0] == "end"
    assert events([least + b"0;\r\n\r\n"])[-1][:2] == ("refused", 400)
    line = CHUNKED + b"1;" + b"x" * (4096 - 2)
    assert events([line + b"\r\na\r\n0\r\n\r\n"])[-1][0] == "end"
    assert events([line + b"x\r\na\r\n0\r\n\r\n"])[-1][:2] == ("refused", 400)


def test_equal_heads_are_one_object_and_equal_fields_one_memo() -> None:
    reader = HeadReader(DEFAULT_LIMITS)
    _, first, again = [reader.read(head(b"A: 1")) for _ in range(3)]
    other = reader.read(head(b"A: 1", line=b"GET /2 HTTP/1.1"))

    assert first is again
    assert first.fields_memo is other.fields_memo
    assert reader.read(head(b"A: 2")).fields_memo is not first.fields_memo
    assert reader.read(head(b"A: 1", line=b"GET / HTTP/1.0")).fields_memo is not first.fields_memo
    assert (other.target, other.memo is first.memo) == ("/2", False)


def test_two_clients_with_other_fields_never_share() -> None:
    reader = HeadReader(DEFAULT_LIMITS)
    one, two = ([head(b"Cookie: " + name)] for name in (b"one", b"two"))

    for _ in range(2):
        assert events(one, reader=reader)[0][4][1] == (b"Cookie", b"one")
        assert events(two, reader=reader)[0][4][1] == (b"Cookie", b"two")


def test_what_is_remembered_does_not_change_what_is_refused() -> None:
    reader = HeadReader(SMALL)
    for _ in range(3):
        assert events([head(line=b"CONNECT b:443 HTTP/1.1")], reader=reader)[-1][0] == "end"
        assert events([head(line=b"CONNECT /b HTTP/1.1")], reader=reader)[-1][:2] == ("refused", 400)
        assert events([head(line=b"OPTIONS * HTTP/1.1")], reader=reader)[-1][0] == "end"
        assert events([head(line=b"OPTIONS a HTTP/1.1")], reader=reader)[-1][:2] == ("refused", 400)
        assert events([head()], reader=reader)[-1][0] == "end"
        assert events([head(line=b"GET * HTTP/1.1")], reader=reader)[-1][:2] == ("refused", 400)
        assert events([head(line=b"GET /\xe9 HTTP/1.1")], reader=reader)[-1][:2] == ("refused", 400)
        long = head(line=b"GET /" + b"a" * 40 + b" HTTP/1.1")
        assert events([long], reader=reader)[-1][:2] == ("refused", 414)


def test_what_is_remembered_is_bounded() -> None:
    reader = HeadReader(DEFAULT_LIMITS)
    for number in range(2 * REMEMBERED + 10):
        for _ in range(2):
            reader.read(head(b"A: %d" % number))
    long = head(b"A: " + b"a" * REMEMBERED_SIZE)

    assert 0 < len(reader._heads) <= REMEMBERED
    assert len(reader._without_target) <= REMEMBERED
    assert len({id(found) for found in [reader.read(long) for _ in range(3)]}) == 3


def split(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


FRAGMENTS = st.sampled_from(
    [
        *[
            piece
            for data in (*ACCEPTED, *(r[1] for r in REFUSED))
            for piece in data.splitlines(keepends=True)
        ],
        *[b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b"0\r\n\r\n", b"Content-Length: 5\r\n", b"a" * 50],
    ]
)
STREAMS = st.one_of(
    st.lists(st.sampled_from(ACCEPTED), max_size=4).map(b"".join),
    st.lists(FRAGMENTS, max_size=12).map(b"".join),
    st.tuples(st.sampled_from(ACCEPTED), st.lists(FRAGMENTS, max_size=4)).map(
        lambda t: t[0] + b"".join(t[1])
    ),
    st.binary(max_size=200),
)
LIMITS = st.sampled_from([DEFAULT_LIMITS, SMALL, HttpLimits(request_line=20, head=60, fields=2)])


@given(STREAMS, st.lists(st.integers(0, 10**6), max_size=20), LIMITS)
def test_how_bytes_are_split_does_not_matter(data: bytes, cuts: list[int], limits: HttpLimits) -> None:
    assert events(split(data, cuts), limits) == events([data], limits)


USED = HeadReader(DEFAULT_LIMITS)


@given(STREAMS)
def test_reader_that_remembers_reads_as_a_new_one(data: bytes) -> None:
    assert events([data], reader=USED) == events([data])


@given(STREAMS, LIMITS)
@example(b"GET / HTTP/1.1\r\n\r\n", DEFAULT_LIMITS)
def test_any_bytes_give_requests_and_at_most_one_refusal(data: bytes, limits: HttpLimits) -> None:
    seen = events([data[i : i + 7] for i in range(0, len(data), 7)], limits)

    assert [event[0] for event in seen].count("refused") <= 1
    for event in seen[:-1]:
        assert event[0] in ("head", "end")
    if seen and seen[-1][0] == "refused":
        assert seen[-1][1] in (400, 414, 417, 431, 501, 505)


@given(STREAMS)
def test_what_is_accepted_llhttp_accepts_alike(data: bytes) -> None:
    """A head that we read from the memory, or frame on our own, is what llhttp makes of the same bytes."""
    parser = RequestParser(HeadReader(DEFAULT_LIMITS))
    parser.feed(data)
    end = data.find(b"\r\n\r\n")
    try:
        found = parser.next_head()
    except Exception:
        return
    if found is None or found.method == "CONNECT" or not found.target.startswith("/"):
        return
    while data.startswith(b"\r\n"):
        data = data[2:]
    end = data.find(b"\r\n\r\n")
    messages: Any
    try:
        messages, _, _ = HttpRequestParser(
            None, None, 2**16, max_field_size=2**16, max_headers=256, response_with_body=False
        ).feed_data(data[: end + 4])
    except HttpProcessingError as error:
        raise AssertionError(f"llhttp refuses it: {error}") from error
    message = messages[0][0]
    assert (message.method, message.path, tuple(message.version)) == (
        found.method,
        found.target,
        found.version,
    )
    assert message.raw_headers == found.fields
    assert bool(message.chunked) == found.chunked
    assert message.headers.get("Content-Length") in (None, str(found.length), "010")
