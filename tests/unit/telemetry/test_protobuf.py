"""OTLP's binary form is decoded as SDKs encode it; anything else is refused.

The messages here are put together by a small writer of the wire format; SENT is what a real SDK sent.
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.model.traces import SpanEvent, SpanKind
from msctl.telemetry.ingest.otlp import MalformedError, Sender, ended_span
from msctl.telemetry.ingest.protobuf import MAX_FIELDS, from_protobuf
from msctl.telemetry.tracing.span import EndedSpan

ORIGIN = Sender("users", "users-1")

SENT = bytes.fromhex(
    "0ad0020a170a150a0c736572766963652e6e616d6512050a03616e7912b4020a030a017812700a1039bf9f3a986eaaf9"
    "736cc0986095f6fe1208e495bcc508fd4f952208f1aace30d7421a522a0a696e6e657220776f726b300139b1eaebabcd"
    "77ea184136cbecabcd77ea185a19096666ecabcd77ea18120568656c6c6f1a070a0161120218017a0712037768791802"
    "85010001000012ba010a1039bf9f3a986eaaf9736cc0986095f6fe1208f1aace30d7421a522a08474554202f73646b30"
    "023944c8eaabcd77ea1841e275edabcd77ea184a200a19687474702e726573706f6e73652e7374617475735f636f6465"
    "120318c8014a120a05726174696f120921000000000000e03f4a140a0562656c6f77120b18fdffffffffffffffff014a"
    "0f0a046c69737412072a050a030a01614a080a026f6b120210014a0f0a04776f726412070a056772c3bc6e7a00850100"
    "010000"
)
"""From opentelemetry-python's OTLP exporter: a server span with one inside, which failed."""


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def fixed64(field: int, value: int) -> bytes:
    return varint(field << 3 | 1) + value.to_bytes(8, "little")


def fixed32(field: int, value: int) -> bytes:
    return varint(field << 3 | 5) + value.to_bytes(4, "little")


def part(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def attribute(key: str, value: bytes) -> bytes:
    return part(9, part(1, key.encode()) + part(2, value))


def request(*spans: bytes) -> bytes:
    return part(1, part(1, b"") + part(2, b"".join(part(2, span) for span in spans)))


IDS = part(1, bytes.fromhex("ab" * 16)) + part(2, bytes.fromhex("cd" * 8))
KEY_AND_VALUE = part(1, b"k") + part(2, part(1, b"v"))
SPAN = (
    IDS
    + part(3, b"state=1")
    + part(4, bytes.fromhex("ef" * 8))
    + part(5, b"GET /users")
    + number(6, 2)
    + fixed64(7, 1_700_000_000_500_000_000)
    + fixed64(8, 1_700_000_000_750_000_000)
    + attribute("http.response.status_code", number(3, 503))
    + attribute("below", number(3, -3))
    + attribute("ok", number(2, 1))
    + attribute("ratio", varint(4 << 3 | 1) + struct.pack("<d", 0.5))
    + attribute("word", part(1, "grün".encode()))
    + attribute("list", part(5, part(1, part(1, b"x"))))
    + part(11, fixed64(1, 5_000_000_000) + part(2, b"an event") + part(3, KEY_AND_VALUE))
    + part(15, part(2, b"too bad") + number(3, 2))
    + fixed32(16, 0x301)
)


def parse(body: bytes) -> list[EndedSpan]:
    return [ended_span(span, ORIGIN) for _, span in from_protobuf(body)]


def test_a_span_is_decoded() -> None:
    assert parse(request(SPAN, IDS)) == [
        EndedSpan(
            "ab" * 16,
            "cd" * 8,
            "ef" * 8,
            "GET /users",
            "users",
            SpanKind.SERVER,
            1_700_000_000.5,
            0.25,
            True,
            503,
            "users-1",
            {"below": -3, "ok": True, "ratio": 0.5, "word": "grün"},
            events=(SpanEvent("an event", 5.0, {"k": "v"}),),
            message="too bad",
        ),
        EndedSpan(
            "ab" * 16,
            "cd" * 8,
            None,
            "internal",
            "users",
            SpanKind.INTERNAL,
            0.0,
            0.0,
            False,
            instance="users-1",
            attributes={},
        ),
    ]


def test_a_request_of_a_real_sdk_is_decoded() -> None:
    inner, server = parse(SENT)
    assert (inner.name, inner.parent_id, inner.error) == ("inner work", server.span_id, True)
    assert (server.name, server.kind, server.status) == ("GET /sdk", SpanKind.SERVER, 200)
    assert server.attributes == {"ratio": 0.5, "below": -3, "ok": True, "word": "grün"}
    assert server.duration_s >= inner.duration_s > 0


def test_a_request_without_spans_is_valid() -> None:
    assert parse(b"") == parse(request()) == parse(part(1, b"")) == []


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a",
        b"\xff" * 12,
        b"\x0a\x05abc",
        b"\x0b",
        number(1, 5),
        fixed64(1, 1)[:-1],
        request(number(1, 5)),
        request(part(6, b"x") + IDS),
        request(IDS + part(9, part(2, number(1, 1)))),
        request(IDS + part(9, part(2, part(4, b"12345678")))),
        request(part(1, b"\0" * 16) + part(2, b"1" * 8)),
        request(b""),
        part(1, b"") * (MAX_FIELDS + 1),
    ],
)
def test_a_malformed_request_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedError):
        parse(body)


def test_invalid_utf8_is_replaced() -> None:
    assert parse(request(IDS + part(5, b"a\xffb")))[0].name == "a\N{REPLACEMENT CHARACTER}b"


@given(st.binary(max_size=200), st.integers(0, len(SPAN)), st.integers(0, 40))
def test_any_bytes_are_decoded_or_refused(noise: bytes, at: int, gone: int) -> None:
    for body in (noise, request(SPAN[:at] + noise + SPAN[at + gone :])):
        try:
            parse(body)
        except MalformedError:
            continue
