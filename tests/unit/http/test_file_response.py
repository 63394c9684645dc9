"""Files over HTTP: which paths name one, conditions, ranges, and the fields of the response."""

from __future__ import annotations

import pytest

from msctl.http.file_response import (
    FileInfo,
    accepted_codings,
    content_type,
    relative_path,
    respond,
    takes_fallback,
)
from msctl.model.exchange import Field
from msctl.model.route_policies import StaticSpec

SPEC = StaticSpec("/srv")
FILE = FileInfo("app.js", 1000, 1_700_000_000_500_000_000)
DATE = b"Tue, 14 Nov 2023 22:13:20 GMT"
BEFORE, AFTER = b"Tue, 14 Nov 2023 22:13:19 GMT", b"Tue, 14 Nov 2023 22:13:21 GMT"


def status(*fields: Field, method: str = "GET") -> int:
    return respond(method, fields, FILE, SPEC).status


def part(wanted: bytes, *more: Field) -> tuple[int, int, int | None]:
    response = respond("GET", [(b"Range", wanted), *more], FILE, SPEC)
    return response.status, response.start, response.length


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/", ""),
        ("/a/b.js", "a/b.js"),
        ("/a/", "a"),
        ("/a%20b/%C3%A9", "a b/é"),
        ("/.well-known/acme", ".well-known/acme"),
        ("/./a/./b.js", "a/b.js"),
        ("/a/.", "a"),
        ("/a/./.git", None),
        ("/a/%2e/b.js", None),
        ("/..", None),
        ("/a/../b", None),
        ("/%2e%2e/etc/passwd", None),
        ("/a%2F..%2Fb", None),
        ("/a\\b", None),
        ("/a%5Cb", None),
        ("/a%00.html", None),
        ("/.env", None),
        ("/a/.git/config", None),
        ("/a/.well-known/x", None),
        ("//etc/passwd", "etc/passwd"),
        ("/a//b", None),
        ("/...", None),
    ],
)
def test_a_path_names_a_file_below_the_root_or_none(path: str, found: str | None) -> None:
    assert relative_path(path) == found


def test_conditions_are_evaluated_in_the_order_of_the_standard() -> None:
    etag = FILE.etag
    assert status() == 200
    assert status((b"If-None-Match", etag)) == 304
    assert status((b"If-None-Match", b'"x", W/' + etag)) == 304
    assert status((b"If-None-Match", b"*"), method="HEAD") == 304
    assert status((b"If-None-Match", b'"x"'), (b"If-Modified-Since", DATE)) == 200
    assert status((b"If-Modified-Since", DATE)) == 304
    assert status((b"If-Modified-Since", BEFORE)) == 200
    assert status((b"If-Modified-Since", b"yesterday")) == 200
    assert status((b"If-Match", b'"x"')) == 412
    assert status((b"If-Match", etag), (b"If-Unmodified-Since", BEFORE)) == 200
    assert status((b"If-Unmodified-Since", BEFORE)) == 412
    assert status((b"If-Unmodified-Since", AFTER)) == 200


def test_a_304_names_the_validators_and_no_type() -> None:
    fields = dict(respond("GET", [(b"If-None-Match", FILE.etag)], FILE, SPEC).fields)
    assert fields[b"ETag"] == FILE.etag
    assert fields[b"Last-Modified"] == DATE
    assert b"Content-Type" not in fields


@pytest.mark.parametrize(
    ("wanted", "answer"),
    [
        (b"bytes=0-0", (206, 0, 1)),
        (b"bytes=0-", (206, 0, 1000)),
        (b"bytes=900-5000", (206, 900, 100)),
        (b"bytes=900-9223372036854775807", (206, 900, 100)),  # the largest number that Go and Java have
        (b"bytes=-100", (206, 900, 100)),
        (b"bytes=-5000", (206, 0, 1000)),
        (b"bytes=1000-", (416, 0, 0)),
        (b"bytes=-0", (416, 0, 0)),
        (b"bytes=5-4", (200, 0, 1000)),
        (b"bytes=0-1,5-6", (200, 0, 1000)),
        (b"lines=0-1", (200, 0, 1000)),
        (b"bytes=a-b", (200, 0, 1000)),
        (b"bytes=" + b"9" * 40 + b"-", (200, 0, 1000)),
    ],
)
def test_ranges(wanted: bytes, answer: tuple[int, int, int]) -> None:
    assert part(wanted) == answer


def test_a_range_of_a_file_that_has_changed_is_the_whole_file() -> None:
    assert part(b"bytes=0-9", (b"If-Range", FILE.etag))[0] == 206
    assert part(b"bytes=0-9", (b"If-Range", DATE))[0] == 206
    assert part(b"bytes=0-9", (b"If-Range", b'"old"'))[0] == 200
    assert part(b"bytes=0-9", (b"If-Range", BEFORE))[0] == 200


def test_the_fields_of_a_partial_response() -> None:
    fields = dict(respond("GET", [(b"Range", b"bytes=10-19")], FILE, SPEC).fields)
    assert fields[b"Content-Range"] == b"bytes 10-19/1000"
    assert dict(respond("GET", [(b"Range", b"bytes=1000-")], FILE, SPEC).fields) == {
        b"Content-Range": b"bytes */1000"
    }
    assert respond("HEAD", [(b"Range", b"bytes=10-19")], FILE, SPEC).status == 200


def test_a_browser_keeps_files_as_long_as_it_is_told_but_never_the_page() -> None:
    spec = StaticSpec("/srv", max_age=3600)
    assert (b"Cache-Control", b"public, max-age=3600") in respond("GET", [], FILE, spec).fields
    page = FileInfo("index.html", 1, 1, is_page=True)
    assert (b"Cache-Control", b"no-cache") in respond("GET", [], page, spec).fields


def test_the_type_follows_the_name() -> None:
    assert content_type("a.html") == "text/html; charset=utf-8"
    assert content_type("a.mjs") == "text/javascript; charset=utf-8"
    assert content_type("a.wasm") == "application/wasm"
    assert content_type("a.svg") == "image/svg+xml; charset=utf-8"
    assert content_type("a.tar.gz") == "application/gzip"
    assert content_type("Makefile") == "application/octet-stream"


def test_codings_that_the_client_takes() -> None:
    def taken(value: bytes) -> list[str]:
        return [name for name, _ in accepted_codings([(b"Accept-Encoding", value)])]

    assert taken(b"gzip, deflate, br") == ["br", "gzip"]
    assert taken(b"br;q=0, gzip;q=0.5") == ["gzip"]
    assert taken(b"identity") == []
    packed = FileInfo("app.js", 10, 1, coding="br")
    response = respond("GET", [], packed, StaticSpec("/", precompressed=True))
    assert {(b"Content-Encoding", b"br"), (b"Vary", b"Accept-Encoding")} <= set(response.fields)
    assert packed.etag != packed._replace(coding=None).etag


def test_a_missing_script_is_no_page() -> None:
    assert takes_fallback("/orders/7", [])
    assert takes_fallback("/orders/v1.2", [(b"Accept", b"text/html,*/*")])
    assert not takes_fallback("/app.123.js", [(b"Accept", b"*/*")])
