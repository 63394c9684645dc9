"""Header fields of a forwarded request: which are dropped, which pass, and which the gateway adds."""

from __future__ import annotations

import pytest

from msctl.gateway.message.headers import (
    Field,
    Hop,
    connection_options,
    edit,
    end_to_end,
    first,
    loops,
    request_fields,
    text,
    valid_request_id,
    values,
    with_prefix,
)
from msctl.model.route_spec import HeaderEdit

HOP_BY_HOP = [
    b"Connection",
    b"Proxy-Connection",
    b"Keep-Alive",
    b"TE",
    b"Trailer",
    b"Transfer-Encoding",
    b"Upgrade",
    b"Proxy-Authenticate",
    b"Proxy-Authorization",
]
REBUILT = [*HOP_BY_HOP, b"Host", b"Content-Length", b"Expect", b"X-Request-Id", b"Traceparent"]
FORWARDING = [
    b"Forwarded",
    b"X-Forwarded-For",
    b"X-Forwarded-Proto",
    b"X-Forwarded-Host",
    b"X-Forwarded-Port",
    b"X-Forwarded-Prefix",
    b"X-Forwarded-User",
    b"X-Original-URL",
    b"X-Original-Forwarded-For",
    b"X-Real-IP",
    b"X-Client-IP",
    b"True-Client-IP",
]
OURS = Hop("192.0.2.1", "http", "shop.test:8080", "msctl-1")


def forwarded(*fields: Field, hop: Hop = OURS, keep_trace: bool = True) -> list[Field]:
    return request_fields(fields, hop, keep_trace=keep_trace)


@pytest.mark.parametrize("name", HOP_BY_HOP)
def test_a_hop_by_hop_field_is_never_forwarded(name: bytes) -> None:
    assert end_to_end([(b"A", b"1"), (name, b"x"), (b"B", b"2")]) == [(b"A", b"1"), (b"B", b"2")]


@pytest.mark.parametrize("name", REBUILT)
def test_a_field_of_the_clients_connection_is_not_in_the_forwarded_request(name: bytes) -> None:
    for spelling in (name, name.lower(), name.upper()):
        assert [field for field in forwarded((spelling, b"theirs")) if field[1] == b"theirs"] == []


def test_end_to_end_fields_pass_in_order_with_their_case_and_repetitions() -> None:
    fields = [(b"x-B", b"1"), (b"Accept", b"a"), (b"x-B", b"2"), (b"Cookie", b"c=1")]
    assert forwarded(*fields)[:4] == fields
    assert end_to_end(fields) == fields


def test_connection_names_more_fields_that_are_not_forwarded() -> None:
    named = [(b"Connection", b"X-A, close"), (b"X-A", b"1"), (b"X-B", b"2"), (b"Close", b"3")]
    assert end_to_end(named) == [(b"X-B", b"2")]
    assert forwarded(*named)[0] == (b"X-B", b"2")
    assert end_to_end([*named, (b"connection", b"x-b")]) == []
    assert connection_options(named) == {b"x-a", b"close"}
    assert connection_options([(b"X", b"close")]) == frozenset()


def test_connection_cannot_take_the_host_or_the_length_away() -> None:
    fields = [
        (b"Connection", b"host, content-length, x"),
        (b"Host", b"a"),
        (b"Content-Length", b"1"),
        (b"X", b"1"),
    ]
    assert end_to_end(fields) == fields[1:3]


def test_the_gateway_says_who_asked_it_and_over_what() -> None:
    assert forwarded() == [
        (b"Via", b"1.1 msctl-1"),
        (b"X-Forwarded-For", b"192.0.2.1"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", b"shop.test:8080"),
    ]
    no_host = Hop("192.0.2.1", "https", "", "msctl-1", version="1.0")
    assert forwarded(hop=no_host) == [
        (b"Via", b"1.0 msctl-1"),
        (b"X-Forwarded-For", b"192.0.2.1"),
        (b"X-Forwarded-Proto", b"https"),
    ]


def test_via_of_earlier_hops_comes_first() -> None:
    out = forwarded((b"Via", b"1.1 one"), (b"A", b"1"), (b"via", b"1.0 two, 1.1 three"))
    assert values(out, b"via") == [b"1.1 one, 1.0 two, 1.1 three, 1.1 msctl-1"]


@pytest.mark.parametrize("name", FORWARDING)
def test_a_stranger_cannot_say_for_whom_it_asks(name: bytes) -> None:
    for spelling in (name, name.upper(), name.replace(b"-", b"_"), name.replace(b"-", b"_", 1).lower()):
        assert [value for _, value in forwarded((spelling, b"forged")) if b"forged" in value] == []


def test_fields_that_only_resemble_those_of_identity_pass() -> None:
    fields = [
        (b"X-Originator", b"1"),
        (b"Forwarded-To", b"2"),
        (b"X-Real-IPv6", b"3"),
        (b"True-Client", b"4"),
    ]
    assert forwarded(*fields)[:4] == fields


def test_a_trusted_peers_word_goes_on_but_not_in_the_spelling_that_it_did_not_write() -> None:
    fields = [(b"X-Real-IP", b"198.51.100.1"), (b"X_Real_IP", b"6.6.6.6"), (b"X_Forwarded_For", b"6.6.6.6")]
    out = forwarded(*fields, hop=OURS._replace(trusted=True))
    assert out[0] == fields[0]
    assert [value for _, value in out if b"6.6.6.6" in value] == []


def test_the_prefix_is_what_was_stripped_after_what_a_trusted_peer_stripped() -> None:
    assert with_prefix([(b"A", b"1")], "/t/%37") == [(b"A", b"1"), (b"X-Forwarded-Prefix", b"/t/%37")]
    assert with_prefix([(b"x-forwarded-prefix", b"/shop/")], "/t/7") == [
        (b"X-Forwarded-Prefix", b"/shop/t/7")
    ]


def test_a_trusted_peer_says_for_whom_it_asks() -> None:
    theirs = [
        (b"x-forwarded-for", b"198.51.100.1"),
        (b"X-Forwarded-For", b"198.51.100.2"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"public.test"),
        (b"X-Forwarded-Port", b"8443"),
        (b"Forwarded", b"for=a"),
        (b"forwarded", b"for=b"),
    ]
    assert forwarded(*theirs, hop=OURS._replace(trusted=True))[1:] == [
        (b"X-Forwarded-For", b"198.51.100.1, 198.51.100.2, 192.0.2.1"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"public.test"),
        (b"X-Forwarded-Port", b"8443"),
        (b"Forwarded", b"for=a, for=b"),
    ]
    both = forwarded(*theirs, hop=OURS._replace(trusted=True, forwarded=True))
    assert first(both, b"forwarded") == b'for=a, for=b, for=192.0.2.1;host="shop.test:8080";proto=http'


def test_a_trusted_peers_host_stands_for_a_missing_one() -> None:
    hop = OURS._replace(trusted=True, host="")
    out = forwarded((b"X-Forwarded-Host", b"public.test"), hop=hop)
    assert first(out, b"x-forwarded-host") == b"public.test"


@pytest.mark.parametrize(
    ("peer", "host", "element"),
    [
        ("192.0.2.1", "a.test", b"for=192.0.2.1;host=a.test;proto=http"),
        ("192.0.2.1", "", b"for=192.0.2.1;proto=http"),
        ("", "a", b"for=unknown;host=a;proto=http"),
        ("::1", "[::1]:80", b'for="[::1]";host="[::1]:80";proto=http'),
        ("192.0.2.1", 'a"b\\', b'for=192.0.2.1;host="a\\"b\\\\";proto=http'),
    ],
)
def test_forwarded_quotes_what_is_no_token(peer: str, host: str, element: bytes) -> None:
    out = forwarded(hop=Hop(peer, "http", host, "m", forwarded=True))
    assert first(out, b"forwarded") == element


def test_tracestate_goes_with_its_trace_alone() -> None:
    fields = ((b"Tracestate", b"a=1"), (b"A", b"1"))
    assert set(fields) <= set(forwarded(*fields))
    assert forwarded(*fields, keep_trace=False)[0] == (b"A", b"1")
    assert first(forwarded(*fields, keep_trace=False), b"tracestate") is None


def state(count: int) -> bytes:
    return b",".join(b"k%d=v" % number for number in range(count))


@pytest.mark.parametrize(
    "lines",
    [
        [b"a=1 \t,\tb@c=2, ,"],
        [b"a=1", b"", b"b=2"],
        [state(32)],
        [b"%b=%b" % (b"a" * 256, b"~" * 256)],
        [b""],
    ],
)
def test_valid_tracestate_goes_on_as_it_came(lines: list[bytes]) -> None:
    out = forwarded(*((b"tracestate", line) for line in lines))
    assert [value for name, value in out if name == b"tracestate"] == lines


@pytest.mark.parametrize(
    "lines",
    [
        *([line] for line in (b"A=1", b"a", b"=1", b"a=", b"a =1", b"@a=1", b"a.b=1", b"a=1=2", b"a=\xfc")),
        [b"a=1", b"b"],
        [state(32), b"z=1"],
        [b"a" * 257 + b"=1"],
        [b"a=" + b"1" * 257],
    ],
)
def test_invalid_tracestate_is_dropped_as_a_whole(lines: list[bytes]) -> None:
    out = forwarded(*((b"tracestate", line) for line in lines))
    assert first(out, b"tracestate") is None


@pytest.mark.parametrize(
    ("via", "looped"),
    [
        (b"1.1 msctl-1", True),
        (b"1.1 MSCTL-1 (comment)", True),
        (b"1.0 other, 1.1 msctl-1", True),
        (b"1.1 msctl-12", False),
        (b"msctl-1", False),
        (b"1.1", False),
        (b"", False),
    ],
)
def test_a_request_that_was_here_already_is_known_by_via(via: bytes, looped: bool) -> None:
    assert loops([(b"X", b"1.1 msctl-1"), (b"VIA", via)], "msctl-1") is looped


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        (b"a-B_1.~+/=:@", True),
        (b"x" * 128, True),
        (b"x" * 129, False),
        (b"", False),
        (b"a b", False),
        (b"a\n", False),
    ],
)
def test_a_request_id_is_short_and_plain(value: bytes, valid: bool) -> None:
    assert valid_request_id(value) is valid


def test_values_and_first_ignore_the_case_of_names() -> None:
    fields = [(b"X-A", b"1"), (b"B", b"2"), (b"x-a", b"3")]
    assert (values(fields, b"x-a"), values(fields, b"c")) == ([b"1", b"3"], [])
    assert (first(fields, b"x-a"), first(fields, b"b"), first(fields, b"c")) == (b"1", b"2", None)


def test_an_edit_removes_then_sets_then_adds() -> None:
    fields = [(b"X-Old", b"1"), (b"x-set", b"1"), (b"X-SET", b"2"), (b"X-Add", b"1"), (b"Y", b"1")]
    change = HeaderEdit(set={"X-Set": "café"}, add={"X-Add": "2"}, remove=("x-old",))
    assert edit(fields, change) == [
        (b"X-Add", b"1"),
        (b"Y", b"1"),
        (b"X-Set", "café".encode()),
        (b"X-Add", b"2"),
    ]
    assert edit(fields, HeaderEdit()) == fields


def test_text_loses_no_byte() -> None:
    assert text(b"caf\xc3\xa9") == "café"
    assert text(b"caf\xe9").encode("utf-8", "surrogateescape") == b"caf\xe9"
