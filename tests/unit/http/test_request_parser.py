"""What the parser keeps, counts and hands over between the parts of a request, call by call."""

from __future__ import annotations

import pytest

from msctl.http.head_reader import HeadReader
from msctl.http.limits import DEFAULT_LIMITS, HttpLimits
from msctl.http.parser import RequestParser
from msctl.model.exchange import RequestError, RequestHead

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SMALL = HttpLimits(request_line=30, head=60, fields=3)


def parser(*pieces: bytes, limits: HttpLimits = DEFAULT_LIMITS) -> RequestParser:
    made = RequestParser(HeadReader(limits))
    for piece in pieces:
        made.feed(piece)
    return made


def post(field: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\n" + field + b"\r\n\r\n"


def head_of(made: RequestParser) -> RequestHead:
    head = made.next_head()
    assert head is not None
    return head


def status_of(made: RequestParser) -> int:
    with pytest.raises(RequestError) as caught:
        made.next_head()
    return caught.value.status


def test_new_parser_has_nothing_and_waits_for_nothing() -> None:
    made = parser()
    assert (made.buffer, made.complete, made.left, made.trailers) == (b"", True, 0, [])
    assert (made.next_head(), made.next_piece(), made.take_rest()) == (None, b"", b"")


def test_bytes_are_kept_in_order_until_they_are_taken() -> None:
    made = parser(b"GET", b" /", b" HT")
    assert (made.next_head(), made.buffer) == (None, b"GET / HT")
    assert made.take_rest() == b"GET / HT"
    assert made.buffer == b""


def test_head_takes_its_bytes_and_leaves_the_next_ones() -> None:
    made = parser(GET + b"GET /2")
    assert head_of(made).target == "/"
    assert (made.buffer, made.complete) == (b"GET /2", True)
    assert made.next_head() is None
    made.feed(b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (head_of(made).target, made.buffer) == ("/2", b"")


@pytest.mark.parametrize("cut", range(1, len(GET)))
def test_head_is_found_wherever_it_was_cut(cut: int) -> None:
    made = parser(GET[:cut])
    assert made.next_head() is None
    assert made.next_head() is None  # asked again without more bytes
    made.feed(GET[cut:] + GET)
    assert head_of(made).target == "/"
    assert made.buffer == GET
    assert head_of(made).target == "/"


def test_body_of_known_length_is_counted_down() -> None:
    made = parser(post(b"Content-Length: 5") + b"ab")
    assert (head_of(made).length, made.complete, made.left) == (5, False, 5)
    assert (made.next_piece(), made.left, made.complete) == (b"ab", 3, False)
    assert (made.next_piece(), made.left) == (b"", 3)
    made.feed(b"cde" + GET)
    assert (made.next_piece(), made.left, made.complete) == (b"cde", 0, True)
    assert (made.next_piece(), made.buffer) == (b"", GET)
    assert head_of(made).method == "GET"


def test_body_that_ends_with_the_bytes_leaves_nothing() -> None:
    made = parser(post(b"Content-Length: 3") + b"abc")
    head_of(made)
    assert (made.next_piece(), made.buffer, made.complete) == (b"abc", b"", True)


def test_empty_body_is_complete_at_once() -> None:
    made = parser(post(b"Content-Length: 0") + GET)
    assert (head_of(made).length, made.complete, made.left) == (0, True, 0)
    assert made.next_piece() == b""


def test_chunked_body_has_no_number_of_bytes_left() -> None:
    made = parser(post(b"Transfer-Encoding: chunked") + b"2\r\nab\r\n")
    assert (head_of(made).chunked, made.complete, made.left) == (True, False, None)
    assert (made.next_piece(), made.buffer, made.left) == (b"ab", b"", None)
    made.feed(b"1\r\nc\r\n0\r\nX: y\r\n\r\n" + GET)
    assert (made.next_piece(), made.complete, made.left) == (b"c", True, 0)
    assert (made.trailers, made.buffer) == ([(b"X", b"y")], GET)


def test_trailers_belong_to_one_request() -> None:
    chunked = post(b"Transfer-Encoding: chunked")
    made = parser(chunked + b"0\r\nX: y\r\n\r\n" + post(b"Content-Length: 1") + b"a")
    head_of(made)
    made.next_piece()
    assert made.trailers == [(b"X", b"y")]
    head_of(made)
    assert (made.trailers, made.left, made.next_piece()) == ([], 1, b"a")


def test_known_length_after_a_chunked_body_is_counted_again() -> None:
    made = parser(post(b"Transfer-Encoding: chunked") + b"0\r\n\r\n" + post(b"Content-Length: 2") + b"xy")
    head_of(made)
    made.next_piece()
    assert (head_of(made).length, made.left, made.next_piece(), made.complete) == (2, 2, b"xy", True)


def test_empty_lines_before_a_request_are_dropped() -> None:
    made = parser(b"\r\n\r\n" + GET)
    assert (head_of(made).target, made.buffer) == ("/", b"")
    made = parser(b"\r\n\r\n\r")
    assert (made.next_head(), made.buffer) == (None, b"\r")
    made.feed(b"\n" + GET)
    assert head_of(made).target == "/"
    made = parser(b"\r\n")
    assert (made.next_head(), made.buffer) == (None, b"")
    assert status_of(parser(b"\rG")) == 400


def test_head_is_limited_to_the_byte() -> None:
    fits = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (60 - 32) + b"\r\n\r\n"
    assert len(fits) == SMALL.head
    assert head_of(parser(fits, limits=SMALL)).fields[1][1] == b"x" * 28
    assert status_of(parser(fits[:-4] + b"x\r\n\r\n", limits=SMALL)) == 431
    # While its end has not come, as many bytes as a head may have are waited for.
    assert parser(fits[:-4] + b"x" * 4, limits=SMALL).next_head() is None
    assert status_of(parser(fits[:-4] + b"x" * 5, limits=SMALL)) == 431
    # What follows a head that fits does not count.
    assert head_of(parser(fits + b"x" * 100, limits=SMALL)).target == "/"


def test_request_line_is_limited_before_its_end_has_come() -> None:
    line = b"GET /" + b"a" * 16 + b" HTTP/1.1"
    assert len(line) == SMALL.request_line
    assert head_of(parser(line + b"\r\nHost: a\r\n\r\n", limits=SMALL)).target == "/" + "a" * 16
    assert parser(line, limits=SMALL).next_head() is None
    assert parser(line + b"\r", limits=SMALL).next_head() is None
    assert status_of(parser(line + b"a", limits=SMALL)) == 414
    assert status_of(parser(b"GET /" + b"a" * 26, limits=SMALL)) == 414


def test_bare_lf_is_refused_wherever_the_bytes_were_cut() -> None:
    for first, second in ((b"Host: a\n", b""), (b"Host: a", b"\n"), (b"Host: a\r\nX: b\r\nY: c", b"\nZ: d")):
        made = parser(b"GET / HTTP/1.1\r\n" + first)
        if second:
            assert made.next_head() is None
            made.feed(second)
        assert status_of(made) == 400


def test_second_head_is_checked_from_its_own_start() -> None:
    made = parser(GET + b"FOO / HTTP/1.1\r\nHo")
    head_of(made)
    assert status_of(made) == 501
    made = parser(GET[:-2])
    assert made.next_head() is None
    made.feed(b"\r\nFOO / HTTP/1.1\r\n")
    head_of(made)
    assert status_of(made) == 501


def test_short_head_after_a_long_one_that_came_in_parts_is_found() -> None:
    long = GET[:-2] + b"X: " + b"x" * 200 + b"\r\n\r\n"
    made = parser(long[:-1])
    assert made.next_head() is None
    made.feed(long[-1:] + GET + GET)
    assert [head_of(made).target for _ in range(3)] == ["/", "/", "/"]
    assert made.buffer == b""


def test_longest_request_line_is_accepted_before_the_fields_have_come() -> None:
    line = b"GET /" + b"a" * 16 + b" HTTP/1.1"
    assert len(line) == SMALL.request_line
    for rest in (b"\r\n", b"\r\nHo", b"\r\nHost: a\r\n"):
        assert parser(line + rest, limits=SMALL).next_head() is None
    assert status_of(parser(line + b"a\r\nHost: a", limits=SMALL)) == 414
