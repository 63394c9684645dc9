"""The decoder of chunked bodies, piece by piece: what it keeps, what it refuses, and at which byte."""

from __future__ import annotations

import pytest

from msctl.http.chunked import ChunkedDecoder
from msctl.http.limits import DEFAULT_LIMITS, HttpLimits
from msctl.model.exchange import RequestError

SIZE_LINE = 4096
TRAILERS = HttpLimits(head=40, fields=2)


def refused(data: bytes, limits: HttpLimits = DEFAULT_LIMITS) -> tuple[int, str]:
    with pytest.raises(RequestError) as caught:
        ChunkedDecoder(limits).decode(data)
    return caught.value.status, caught.value.detail


def waits(data: bytes, limits: HttpLimits = DEFAULT_LIMITS) -> ChunkedDecoder:
    """A decoder that has read `data` and wants more."""
    decoder = ChunkedDecoder(limits)
    decoder.decode(data)
    assert not decoder.done
    return decoder


def test_new_decoder_has_nothing() -> None:
    decoder = ChunkedDecoder(DEFAULT_LIMITS)
    assert (decoder.done, decoder.rest, decoder.trailers) == (False, b"", [])
    assert decoder.decode(b"") == []


def test_pieces_are_returned_as_they_arrive() -> None:
    decoder = ChunkedDecoder(DEFAULT_LIMITS)
    assert decoder.decode(b"3\r\nab") == [b"ab"]
    assert decoder.decode(b"c\r") == [b"c"]
    assert decoder.decode(b"\n1") == []
    assert decoder.decode(b"0\r\n") == []
    assert decoder.decode(b"0123456789abcdef\r\n2\r\nxy") == [b"0123456789abcdef", b"xy"]
    assert decoder.decode(b"\r\n0\r\n\r\nnext") == []
    assert (decoder.done, decoder.rest) == (True, b"next")


def test_what_follows_the_last_chunk_is_the_rest_and_not_read() -> None:
    decoder = ChunkedDecoder(DEFAULT_LIMITS)
    assert decoder.decode(b"1\r\na\r\n0\r\n\r\n\xff\r\n") == [b"a"]
    assert (decoder.done, decoder.rest, decoder.trailers) == (True, b"\xff\r\n", [])


@pytest.mark.parametrize("end", [b"x", b"\n", b"\x0c", b"\x0e"])
def test_first_byte_after_a_chunk_is_refused_unless_it_is_cr(end: bytes) -> None:
    assert "longer than its size" in refused(b"1\r\na" + end)[1]
    assert waits(b"1\r\na\r").decode(b"\n1\r\nb") == [b"b"]


@pytest.mark.parametrize("end", [b"\r\r", b"\rx", b"x\n", b"\n\n"])
def test_chunk_ends_with_cr_lf(end: bytes) -> None:
    assert "longer than its size" in refused(b"1\r\na" + end)[1]
    assert "longer than its size" in refused(b"1\r\na" + end + b"0\r\n\r\n")[1]


def test_size_line_is_limited_to_the_byte_whether_its_end_has_come_or_not() -> None:
    longest = b"1;" + b"x" * (SIZE_LINE - 2)
    assert waits(longest).decode(b"\r\na") == [b"a"]
    assert waits(longest + b"\r").decode(b"\na") == [b"a"]
    for data in (longest + b"xx", longest + b"x\r\n", longest + b"\r\r\n", longest + b"x" * 5000):
        status, detail = refused(data)
        assert (status, "too long" in detail) == (400, True)
    # After bytes of other lines, the limit counts from the line's own start.
    assert waits(b"1\r\na\r\n" + longest).decode(b"\r\nb") == [b"b"]
    assert "too long" in refused(b"1\r\na\r\n" + longest + b"xx")[1]


def test_trailer_section_is_limited_like_a_head() -> None:
    line = b"X: " + b"a" * 35  # 40 bytes with its end
    assert ChunkedDecoder(TRAILERS).decode(b"0\r\n" + line + b"\r\n\r\n") == []
    waits(b"0\r\n" + b"a" * 40, TRAILERS)
    for data in (line + b"a\r\n", b"X: 1\r\n" + line + b"\r\n", b"a" * 42, b"a" * 500, b"X:\r\n" * 3):
        status, detail = refused(b"0\r\n" + data, TRAILERS)
        assert (status, "trailer section" in detail) == (431, True)
    decoder = ChunkedDecoder(TRAILERS)
    decoder.decode(b"0\r\nX: 1\r\nY:\t2 \r\n\r\n")
    assert (decoder.done, decoder.trailers) == (True, [(b"X", b"1"), (b"Y", b"2")])


@pytest.mark.parametrize("line", [b"\n", b"1\n", b"1;x\n", b"x\r\n1\n"])
def test_line_without_cr_is_refused(line: bytes) -> None:
    detail = refused(line)[1]
    assert "LF alone" in detail or "hexadecimal" in detail
    assert "LF alone" in refused(b"0\r\n" + b"X: 1\r\n\n")[1]


def test_size_has_at_most_15_digits() -> None:
    waits(b"0" * 14 + b"1\r\na")
    assert "hexadecimal" in refused(b"0" * 15 + b"1\r\na")[1]
    decoder = waits(b"fFfFfFfFfFfFfFf\r\nabc")
    assert decoder.decode(b"def") == [b"def"]


def test_extensions_count_over_the_whole_body() -> None:
    decoder = ChunkedDecoder(DEFAULT_LIMITS)
    chunk = b"1;" + b"x" * 2047 + b"\r\na\r\n"
    for _ in range(8):
        decoder.decode(chunk)
    with pytest.raises(RequestError, match="extensions") as caught:
        decoder.decode(b"1;\r\n")
    assert caught.value.status == 400


@pytest.mark.parametrize("character", [b"\t", b" ", b"~", b'"'])
def test_extension_has_visible_characters_and_blanks(character: bytes) -> None:
    waits(b"1;a=" + character + b"\r\nb")
    for other in (b"\0", b"\x1f", b"\x7f", b"\x80"):
        assert "hexadecimal" in refused(b"1;a=" + other + b"\r\nb")[1]


@pytest.mark.parametrize(
    "name", [b"Content-Length", b"Transfer-Encoding", b"HOST", b"connection", b"Trailer"]
)
def test_fields_that_frame_or_route_are_refused_in_the_trailers(name: bytes) -> None:
    status, detail = refused(b"0\r\n" + name + b": 1\r\n\r\n")
    assert (status, "trailer" in detail) == (400, True)
