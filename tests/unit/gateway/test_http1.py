"""The response parser: the same message in any pieces, and nothing beyond its limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.gateway.message.http1 import (
    MAX_HEAD,
    IncompleteResponseError,
    MalformedResponseError,
    ResponseReader,
    chunk,
    parse_head,
    serialize_fields,
)


def read(data: bytes, method: str = "GET", *, eof: bool = False) -> ResponseReader:
    reader = ResponseReader(method)
    reader.feed(data)
    if eof:
        reader.feed_eof()
    return reader


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), st.lists(st.integers(1, 40), max_size=20))
def test_a_response_parses_the_same_in_any_pieces(pieces: list[bytes], cuts: list[int]) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n"
    data = interim + head + b"".join(map(chunk, pieces)) + b"0\r\nX-Trailer: 1\r\n\r\n"
    reader = ResponseReader("GET")
    position = 0
    for cut in [*cuts, len(data)]:
        reader.feed(data[position : position + cut])
        position += cut
    assert reader.done
    assert reader.reusable
    assert b"".join(reader.body) == b"".join(pieces)
    assert reader.head is not None
    assert reader.head.fields == ((b"Transfer-Encoding", b"chunked"), (b"X", b"y"))
    assert [interim.status for interim in reader.interim] == [103]


def test_bytes_after_the_length_are_excess() -> None:
    reader = read(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd")
    assert (reader.body, reader.done, reader.excess, reader.reusable) == ([b"abc"], True, True, False)


@pytest.mark.parametrize(
    ("head", "method"),
    [
        (b"HTTP/1.1 204 No Content", "GET"),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9", "GET"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9", "HEAD"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0", "GET"),
    ],
)
def test_a_response_without_a_body_ends_with_its_head(head: bytes, method: str) -> None:
    assert read(head + b"\r\n\r\n", method).reusable


def test_equal_lengths_are_one_length() -> None:
    assert parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nContent-Length: 5", "GET").length == 5
    repeated = parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nA: b\r\ncontent-length: 5", "GET")
    assert (repeated.fields, repeated.length) == (((b"A", b"b"),), 5)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304)])
def test_lengths_that_differ_are_left_out_where_no_body_follows(method: str, status: int) -> None:
    head = parse_head(b"HTTP/1.1 %d X\r\nContent-Length: 300\r\nContent-Length: 0" % status, method)
    assert (head.bodiless, head.length) == (True, None)


def test_space_before_a_colon_is_removed() -> None:
    # RFC 9112 §5.1: a proxy must remove it from a response.
    assert parse_head(b"HTTP/1.1 200 OK\r\nX \t: y", "GET").fields == ((b"X", b"y"),)


@pytest.mark.parametrize(
    ("head", "stays"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close", False),
        (b"HTTP/1.1 200 OK", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive", True),
    ],
)
def test_a_connection_is_kept_if_the_end_of_the_body_is_delimited(head: bytes, stays: bool) -> None:
    assert parse_head(head, "GET").keep_alive is stays


def test_a_reason_may_be_absent() -> None:
    assert parse_head(b"HTTP/1.1 200", "GET").reason == b""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ],
)
def test_an_early_end_is_an_error(data: bytes) -> None:
    with pytest.raises(IncompleteResponseError):
        read(data, eof=True)


def test_the_end_of_the_connection_ends_a_body_without_length() -> None:
    assert read(b"HTTP/1.1 200 OK\r\n\r\nabc", eof=True).done


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEAD,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 300,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 6000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX",
        b"<html>",
    ],
)
def test_nothing_grows_without_bound(data: bytes) -> None:
    with pytest.raises(MalformedResponseError):
        read(data)


def test_a_head_keeps_its_fields_as_given() -> None:
    fields = [(b"A", b"1"), (b"a", b"2")]
    assert serialize_fields(fields) == b"A: 1\r\na: 2\r\n"
    assert serialize_fields([]) == b""
