"""The response parser at its limits: the last byte that is allowed, and the first that is not."""

from __future__ import annotations

import pytest

from msctl.gateway.message.http1 import (
    MAX_CHUNK_LINE,
    MAX_FIELDS,
    MAX_HEAD,
    MAX_INTERIM,
    MAX_TRAILER,
    IncompleteResponseError,
    MalformedResponseError,
    ResponseReader,
    chunk,
    parse_head,
)

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def read(*pieces: bytes, method: str = "GET") -> ResponseReader:
    reader = ResponseReader(method)
    for piece in pieces:
        reader.feed(piece)
    return reader


def malformed(*pieces: bytes) -> None:
    with pytest.raises(MalformedResponseError):
        read(*pieces)


def test_the_limits_are_those_of_the_documentation() -> None:
    assert (MAX_HEAD, MAX_FIELDS) == (65536, 1000)
    assert (MAX_INTERIM, MAX_CHUNK_LINE, MAX_TRAILER) == (16, 256, 16384)


def test_the_number_of_fields_is_bounded() -> None:
    assert len(parse_head(OK + b"\r\n".join([b"X: y"] * MAX_FIELDS), "GET").fields) == MAX_FIELDS
    with pytest.raises(MalformedResponseError):
        parse_head(OK + b"\r\n".join([b"X: y"] * (MAX_FIELDS + 1)), "GET")


def test_a_head_is_bounded_whether_its_end_has_come_or_not() -> None:
    field = b"X: " + b"y" * 8000 + b"\r\n"
    fill = field * 8
    head = OK + fill + b"Z: " + b"z" * (MAX_HEAD - len(OK) - len(fill) - 3)
    assert len(head) == MAX_HEAD
    assert read(head + b"\r\n\r\n").head is not None
    assert read(head[:-1], head[-1:] + b"\r\n\r\n").head is not None
    malformed(head + b"z\r\n\r\n")
    malformed(head + b"z")


def test_interim_responses_are_bounded() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    reader = read(hints * MAX_INTERIM + OK + b"Content-Length: 0\r\n\r\n")
    assert ([head.status for head in reader.interim], reader.done) == ([103] * MAX_INTERIM, True)
    malformed(hints * (MAX_INTERIM + 1))
    for status in (100, 102, 199):
        reader = read(b"HTTP/1.1 %d X\r\n\r\n" % status)
        assert ([head.status for head in reader.interim], reader.head, reader.done) == ([status], None, False)


@pytest.mark.parametrize("together", [True, False])
def test_a_chunks_size_line_is_bounded(together: bool) -> None:
    longest = b"1;" + b"x" * (MAX_CHUNK_LINE - 2)
    for size, line in ((1, longest), (0, b"0;" + longest[2:])):
        rest = b"\r\ny\r\n" if size else b"\r\n\r\n"
        reader = read(CHUNKED, line + rest) if together else read(CHUNKED, line, rest[:1], rest[1:])
        assert reader.done is not bool(size)
    malformed(CHUNKED, longest + b"x\r\n")
    malformed(CHUNKED, longest + b"xx")


def test_the_trailer_section_is_bounded() -> None:
    field = b"X: " + b"y" * (1024 - 3)
    whole = (field + b"\r\n") * (MAX_TRAILER // 1024)
    assert read(CHUNKED, b"0\r\n" + whole + b"\r\n").done
    malformed(CHUNKED, b"0\r\n" + whole + b"X:\r\n\r\n")
    long = b"X: " + b"y" * (MAX_TRAILER - 3)
    assert read(CHUNKED, b"0\r\n" + long + b"\r\n\r\n").done
    malformed(CHUNKED, b"0\r\n" + long + b"y\r\n\r\n")
    malformed(CHUNKED, b"0\r\nno field\r\n\r\n")


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 1\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Content-Length: 1\r\nContent-Length: 2",
        b"Content-Length: 1, 2",
        b"Content-Length:",
        b"Content-Length: -1",
        b"Content-Length: " + b"1" * 19,
    ],
)
def test_framing_that_two_readers_could_understand_differently_is_refused(fields: bytes) -> None:
    with pytest.raises(MalformedResponseError):
        parse_head(OK + fields, "GET")


def test_http_1_0_has_no_chunks() -> None:
    with pytest.raises(MalformedResponseError):
        parse_head(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked", "GET")


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 200OK",
        b"HTTP/1.2 200 OK",
        b"HTTP/2 200 OK",
        b"http/1.1 200 OK",
        b"HTTP/1.1 099 X",
        b"HTTP/1.1 20",
        b"",
    ],
)
def test_a_status_line_that_is_none_is_refused(line: bytes) -> None:
    with pytest.raises(MalformedResponseError):
        parse_head(line, "GET")


@pytest.mark.parametrize(
    ("method", "status", "bodiless"),
    [
        ("GET", 200, False),
        ("HEAD", 200, True),
        ("GET", 204, True),
        ("GET", 304, True),
        ("GET", 199, True),
        ("GET", 205, False),
    ],
)
def test_which_responses_have_no_body(method: str, status: int, bodiless: bool) -> None:
    head = parse_head(b"HTTP/1.1 %d X\r\nContent-Length: 3" % status, method)
    assert (head.bodiless, head.length, head.keep_alive) == (bodiless, 3, True)


def test_a_switch_of_protocols_leaves_the_bytes_that_follow_alone() -> None:
    reader = read(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nraw", b"more")
    assert (reader.upgraded, reader.done, b"".join(reader.body)) == (True, True, b"rawmore")
    assert reader.head is not None
    assert reader.head.status == 101
    assert not reader.reusable


def test_a_body_of_known_length_arrives_in_pieces() -> None:
    reader = read(OK + b"Content-Length: 5\r\n\r\nab", b"cd")
    assert (reader.body, reader.done) == ([b"ab", b"cd"], False)
    with pytest.raises(IncompleteResponseError, match=" 1 bytes"):
        reader.feed_eof()
    reader.feed(b"e")
    assert (reader.done, reader.excess, reader.reusable) == (True, False, True)
    reader.feed_eof()
    reader.feed(b"f")
    assert (reader.excess, reader.reusable) == (True, False)


def test_chunks_arrive_in_any_pieces() -> None:
    data = chunk(b"hello") + b"A;x=y \r\n" + b"z" * 10 + b"\r\n" + b"00\r\n\r\n"
    for cut in range(1, len(data)):
        reader = read(CHUNKED, data[:cut], data[cut:])
        assert (b"".join(reader.body), reader.done, reader.excess) == (b"hello" + b"z" * 10, True, False)


@pytest.mark.parametrize(
    "data",
    [b"\r\n", b"g\r\n", b"-1\r\n", b"1 2\r\n", b"0x1\r\n", b"1" * 16 + b"\r\n", b"1\r\nab\r\n", b"1\r\na\rb"],
)
def test_a_chunk_that_is_none_is_refused(data: bytes) -> None:
    malformed(CHUNKED, data)


def test_a_response_that_is_not_http_is_refused_with_its_first_bytes() -> None:
    assert read(b"HT", b"TP/1").head is None
    for data in (b"X", b"HTX", b"HTTP 1"):
        malformed(data)
