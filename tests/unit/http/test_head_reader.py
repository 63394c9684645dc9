"""Heads under their limits, and what the reader remembers of them."""

from __future__ import annotations

import pytest

from msctl.http.head_reader import REMEMBERED, REMEMBERED_SIZE, HeadReader
from msctl.http.limits import DEFAULT_LIMITS, HttpLimits
from msctl.model.exchange import RequestError, RequestHead

SMALL = HttpLimits(request_line=30, head=400, fields=3)


def head(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: a\r\n") -> bytes:
    return line + b"\r\n" + host + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def read(data: bytes, reader: HeadReader | None = None) -> RequestHead:
    return (reader or HeadReader(DEFAULT_LIMITS)).read(data)


def refused(data: bytes, reader: HeadReader | None = None) -> tuple[int, str]:
    with pytest.raises(RequestError) as caught:
        read(data, reader)
    return caught.value.status, caught.value.detail


def test_a_head_is_read_with_all_its_parts() -> None:
    found = read(head(b"Content-Length: 12", b"Expect: 100-Continue", line=b"PUT /x?y=1 HTTP/1.1"))
    assert (found.method, found.target, found.version) == ("PUT", "/x?y=1", (1, 1))
    assert (found.length, found.chunked, found.upgrade) == (12, False, None)
    assert (found.keep_alive, found.expects_continue) == (True, True)
    assert found.fields == ((b"Host", b"a"), (b"Content-Length", b"12"), (b"Expect", b"100-Continue"))


def test_request_line_is_limited_to_the_byte_for_known_and_new_heads() -> None:
    reader = HeadReader(SMALL)
    longest, longer = (b"GET /" + b"a" * count + b" HTTP/1.1" for count in (16, 17))
    for _ in range(3):
        assert read(head(line=longest), reader).target == "/" + "a" * 16
        assert refused(head(line=longer), reader)[0] == 414
    assert refused(head(line=longer), HeadReader(SMALL))[0] == 414


def test_number_of_fields_is_limited() -> None:
    assert len(read(head(b"A:", b"B:"), HeadReader(SMALL)).fields) == 3
    status, detail = refused(head(b"A:", b"B:", b"C:"), HeadReader(SMALL))
    assert (status, "3 header fields (max_header_fields)" in detail) == (431, True)


def test_heads_are_remembered_from_the_second_time_on() -> None:
    reader = HeadReader(DEFAULT_LIMITS)
    first, second, third, fourth = (read(head(b"A: 1"), reader) for _ in range(4))
    assert first is not second
    assert second is third
    assert third is fourth


def test_targets_share_what_is_parsed_of_the_rest() -> None:
    reader = HeadReader(DEFAULT_LIMITS)
    one, two = read(head(line=b"GET /1 HTTP/1.1"), reader), read(head(line=b"GET /2 HTTP/1.1"), reader)
    assert one.fields is two.fields
    assert (one.target, two.target) == ("/1", "/2")
    assert read(head(line=b"POST /1 HTTP/1.1"), reader).method == "POST"
    assert read(head(line=b"GET /1 HTTP/1.0"), reader).version == (1, 0)


def test_connect_is_never_read_from_what_is_remembered_of_another_target() -> None:
    reader = HeadReader(DEFAULT_LIMITS)
    for _ in range(3):
        assert read(head(line=b"CONNECT b:1 HTTP/1.1"), reader).target == "b:1"
        assert refused(head(line=b"CONNECT /b HTTP/1.1"), reader)[0] == 400


def test_longest_head_that_is_remembered() -> None:
    reader = HeadReader(DEFAULT_LIMITS)
    fits = head(b"X: " + b"x" * (REMEMBERED_SIZE - len(head(b"X: "))))
    assert len(fits) == REMEMBERED_SIZE
    read(fits, reader)
    assert read(fits, reader) is read(fits, reader)
    longer = head(b"X: " + b"x" * (REMEMBERED_SIZE - len(head(b"X: ")) + 1))
    read(longer, reader)
    assert read(longer, reader) is not read(longer, reader)


def test_memory_is_emptied_when_it_is_full() -> None:
    reader = HeadReader(DEFAULT_LIMITS)
    for number in range(REMEMBERED):
        read(head(b"A: %d" % number), reader)
    assert len(reader._without_target) == REMEMBERED
    read(head(b"A: one more"), reader)
    assert len(reader._without_target) == 1


@pytest.mark.parametrize(
    ("fields", "status", "fragment"),
    [
        ([b"Content-Length: 1", b"Content-Length: 1"], 400, "single number"),
        ([b"Content-Length: 1, 1"], 400, "single number"),
        ([b"Content-Length: +1"], 400, "single number"),
        ([b"Content-Length: " + b"1" * 19], 400, "single number"),
        ([b"Content-Length: 1", b"Transfer-Encoding: chunked"], 400, "both"),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], 400, "repeated"),
        ([b"Host: b"], 400, "more than one"),
        ([b"Expect: later"], 417, "100-continue"),
        ([b"Expect: 100-continue", b"Expect: later"], 417, "100-continue"),
        ([b"Content_Length: 1"], 400, "looks like"),
        ([b"content-_-length: 1"], 400, "looks like"),
        ([b"Transfer__Encoding: x"], 400, "looks like"),
    ],
)
def test_fields_that_contradict_are_refused(fields: list[bytes], status: int, fragment: str) -> None:
    found, detail = refused(head(*fields, line=b"POST / HTTP/1.1"))
    assert (found, fragment in detail) == (status, True)


def test_numbers_of_18_digits_are_lengths() -> None:
    assert read(head(b"Content-Length: " + b"9" * 18)).length == 10**18 - 1
    assert read(head(b"X-Content-Length: x", b"Content-Lengths: x")).length is None


def test_http_1_0_needs_no_host_and_has_no_upgrade_nor_transfer_coding() -> None:
    old = b"POST / HTTP/1.0"
    assert read(head(line=old, host=b"")).keep_alive is False
    assert read(head(b"Connection: Keep-Alive", line=old)).keep_alive is True
    assert read(head(b"Connection: upgrade", b"Upgrade: x", line=old)).upgrade is None
    assert read(head(b"Expect: x", b"Content-Length: 1", line=old)).expects_continue is False
    assert refused(head(b"Transfer-Encoding: chunked", line=old))[0] == 400
    assert refused(head(line=b"GET / HTTP/1.1", host=b""))[1].startswith("The request has no Host")


@pytest.mark.parametrize(("field", "fragment"), [(b"A: b", "no Host"), (b"Host: b\r\nHost: c", "one Host")])
def test_chunked_request_is_refused_for_what_is_wrong_with_it(field: bytes, fragment: str) -> None:
    line = b"POST / HTTP/1.1"
    status, detail = refused(head(b"Transfer-Encoding: Chunked", field, line=line, host=b""))
    assert (status, fragment in detail) == (400, True)


def test_upgrade_names_the_first_protocol_or_websocket() -> None:
    assert read(head(b"Connection: Upgrade", b"Upgrade: a/1, b")).upgrade == "a/1"
    assert (
        read(head(b"Connection: x,\tUPGRADE", b"Upgrade: a", b"Upgrade: ,WebSocket")).upgrade == "websocket"
    )
    assert read(head(b"Connection: close", b"Upgrade: a")).upgrade is None
    assert read(head(b"Connection: Upgrade", b"Upgrade: a", b"Content-Length: 0")).upgrade == "a"
    assert read(head(b"Connection: Upgrade", b"Upgrade: a", b"Content-Length: 1")).upgrade is None
    assert read(head(b"Connection: Upgrade", b"Upgrade: a", b"Transfer-Encoding: chunked")).upgrade is None


def test_expectation_counts_where_a_body_follows() -> None:
    assert read(head(b"Expect: 100-continue", b"Transfer-Encoding: chunked")).expects_continue
    assert not read(head(b"Expect: 100-continue", b"Content-Length: 0")).expects_continue
    assert not read(head(b"Content-Length: 1")).expects_continue


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET * HTTP/1.1", 400),
        (b"GET a HTTP/1.1", 400),
        (b"GET http:///a HTTP/1.1", 400),
        (b"GET 1http://a HTTP/1.1", 400),
        (b"CONNECT a/b HTTP/1.1", 400),
        (b"FOO / HTTP/1.1", 501),
        (b"GET / HTTP/1.2", 505),
        (b"GET /", 400),
        (b"G=T / HTTP/1.1", 400),
    ],
)
def test_request_line_of_another_form_is_refused(line: bytes, status: int) -> None:
    for reader in (HeadReader(DEFAULT_LIMITS), HeadReader(SMALL)):
        read(head(), reader)
        assert refused(head(line=line), reader)[0] == status


def test_malformed_fields_do_not_harm_the_next_head() -> None:
    reader = HeadReader(DEFAULT_LIMITS)
    for bad in (b"no colon", b"X : a", b"X: a\x00b", b" X: folded"):
        assert refused(head(bad), reader)[0] == 400
        assert read(head(b"X: good"), reader).fields[1] == (b"X", b"good")
