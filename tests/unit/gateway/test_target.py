"""The request target: what is accepted, what it means, and what an upstream could resolve differently."""

from __future__ import annotations

import pytest

from msctl.gateway.message.target import (
    BadTargetError,
    Target,
    check_path,
    is_authority,
    parse_target,
    path_elements,
)
from msctl.model.address import host_name


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        ("/", Target("/")),
        ("/a/b", Target("/a/b")),
        ("/a?", Target("/a", "")),
        ("/a?b=/c?d", Target("/a", "b=/c?d")),
        ("//a", Target("//a")),
        ("*", Target("*", asterisk=True)),
        ("http://a.test", Target("/", authority="a.test")),
        ("HTTPS://a.test:1/b?c", Target("/b", "c", "a.test:1")),
        ("http://a.test?b/c", Target("/", "b/c", "a.test")),
        ("/%7Ea%2fb", Target("/%7Ea%2fb")),
        ("/a.b/..c/c../...", Target("/a.b/..c/c../...")),
        ("/a?../..%zz%00", Target("/a", "../..%zz%00")),
    ],
)
def test_an_accepted_target(raw: str, target: Target) -> None:
    assert parse_target(raw) == target
    assert target.asterisk is (raw == "*")


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "a",
        "a/b",
        "**",
        "/a#b",
        "/a b",
        "/a\tb",
        "/\x00",
        "/\x7f",
        "ftp://a.test/",
        "http:/a",
        "http://",
        "http:///a",
        "http://u@a.test/",
        "http://a.test:x/",
        "http://a,b/",
    ],
)
def test_a_target_that_is_neither_a_path_nor_an_http_url_is_refused(raw: str) -> None:
    with pytest.raises(BadTargetError):
        parse_target(raw)


@pytest.mark.parametrize(
    "path",
    [
        "/..",
        "/./..",
        "/a/../b",
        "/a/.././b",
        "/a/..",
        "/%2e",
        "/%2E%2e/b",
        "/.%2e/b",
        "/a%2f..%2Fb",
        "/a\\..\\b",
        "/a%5c..%5Cb",
        "/..;x/b",
        "/..%3bx/b",
        "/..%3Bx;y/b",
        "/.;/b",
    ],
)
def test_dot_segments_are_refused_in_any_encoding(path: str) -> None:
    with pytest.raises(BadTargetError, match="dot segments"):
        parse_target(path)
    with pytest.raises(BadTargetError, match="dot segments"):
        check_path(path)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/.", "/"),
        ("/./", "/"),
        ("/./a", "/a"),
        ("/a/./b", "/a/b"),
        ("/a/././b/.", "/a/b/"),
        ("/a/.?b/./c", "/a/"),
        ("/.//a", "//a"),
        ("http://a.test/./b", "/b"),
        ("/.a/./.b", "/.a/.b"),
    ],
)
def test_a_dot_that_names_where_it_stands_is_left_out(raw: str, path: str) -> None:
    assert parse_target(raw).path == path


@pytest.mark.parametrize("path", ["/%", "/a%2", "/a%zz", "/%%20", "/a%g0"])
def test_a_percent_sign_without_two_hex_digits_is_refused(path: str) -> None:
    with pytest.raises(BadTargetError, match="percent"):
        parse_target(path)


def test_an_encoded_nul_is_refused() -> None:
    with pytest.raises(BadTargetError, match="NUL"):
        parse_target("/a%00b")


@pytest.mark.parametrize(
    "path", ["/a;b", "/a;..", "/;..", "/...", "/.a", "/a.", "/a%20b", "/a%2fb", "/a\\b", "/.%2e."]
)
def test_what_only_looks_like_a_dot_segment_passes(path: str) -> None:
    assert parse_target(path).path == path


@pytest.mark.parametrize(
    ("path", "elements"),
    [
        ("/", ("",)),
        ("/a/b/", ("a", "b", "")),
        ("/%61%2D%2e%5f%7e%41%30", ("a-._~A0",)),
        ("/a%2fb", ("a%2Fb",)),
        ("/%c3%a9/%25", ("%C3%A9", "%25")),
        ("/%2b%3A", ("%2B%3A",)),
    ],
)
def test_only_unreserved_characters_are_decoded_for_routes(path: str, elements: tuple[str, ...]) -> None:
    assert path_elements(path) == elements
    assert Target(path).elements == elements


def test_the_origin_form_is_what_was_sent() -> None:
    for raw in ("/", "/a%2f", "/a?", "/a?b=%zz"):
        assert parse_target(raw).origin_form() == raw
    assert parse_target("http://a.test/b?c").origin_form() == "/b?c"


@pytest.mark.parametrize("value", ["a", "a.test:80", "a:", "127.0.0.1", "[::1]", "[::1]:80", "a_b", "%41"])
def test_an_authority(value: str) -> None:
    assert is_authority(value)


@pytest.mark.parametrize(
    "value", ["", ":80", "a:x", "u@a", "a/b", "[::1", "[::g]", "a b", "a,b", "%4", "é", "a\n"]
)
def test_no_authority(value: str) -> None:
    assert not is_authority(value)


@pytest.mark.parametrize(
    ("authority", "host"),
    [("A.Test:80", "a.test"), ("a", "a"), ("[::AB]:80", "[::ab]"), ("[::1]", "[::1]"), ("", "")],
)
def test_the_host_of_an_authority(authority: str, host: str) -> None:
    assert host_name(authority) == host
