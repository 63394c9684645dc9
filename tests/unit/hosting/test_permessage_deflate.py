"""What a server agrees on about compression (RFC 7692), and what it makes of compressed messages."""

from __future__ import annotations

import asyncio
import os
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.hosting.asgi.permessage_deflate import STEP, Agreement, Deflater, Inflater, agreement
from msctl.hosting.asgi.websocket_frames import BINARY, INVALID_DATA, TEXT, TOO_BIG, Compressed, FrameError

TAIL = b"\x00\x00\xff\xff"


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        ("permessage-deflate", "server_max_window_bits=12"),
        # Chromium, Firefox and websockets; Safari offers the first
        (
            "permessage-deflate; client_max_window_bits",
            "server_max_window_bits=12; client_max_window_bits=12",
        ),
        (
            "permessage-deflate; client_max_window_bits=10; server_max_window_bits=9",
            "server_max_window_bits=9; client_max_window_bits=10",
        ),
        (
            "permessage-deflate; client_max_window_bits=15; server_max_window_bits=15",
            "server_max_window_bits=12; client_max_window_bits=12",
        ),
        (
            "permessage-deflate; client_max_window_bits=8",
            "server_max_window_bits=12; client_max_window_bits=8",
        ),
        (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12",
        ),
        # every form of the grammar
        ('permessage-deflate;server_max_window_bits="10"', "server_max_window_bits=10"),
        ('permessage-deflate; server_max_window_bits = "1\\0"', "server_max_window_bits=10"),
        (" ,,\tpermessage-deflate ,", "server_max_window_bits=12"),
        # the first acceptable offer counts
        (
            "permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=11",
            "server_max_window_bits=11",
        ),
        (
            'x-zip; how="a,b;c\\"d", permessage-deflate; client_no_context_takeover, permessage-deflate',
            "client_no_context_takeover; server_max_window_bits=12",
        ),
        # declined
        ("", None),
        ("x-webkit-deflate-frame, bbf-usp-protocol", None),
        ("Permessage-Deflate", None),
        ("permessage-deflate; unknown", None),
        ("permessage-deflate; server_no_context_takeover=true", None),
        ('permessage-deflate; client_no_context_takeover=""', None),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; server_max_window_bits=8", None),  # zlib cannot
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits=010", None),
        ("permessage-deflate; server_max_window_bits=+9", None),
        ("permessage-deflate; client_max_window_bits=7", None),
        ('permessage-deflate; client_max_window_bits=""', None),
        ("permessage-deflate; client_max_window_bits=15; client_max_window_bits", None),
    ],
)
def test_offer_is_answered(offers: str, answer: str | None) -> None:
    agreed = agreement(offers.encode())
    field = agreed and agreed.field()
    assert field == (f"permessage-deflate; {answer}".encode() if answer else None)


@pytest.mark.parametrize(
    "offers",
    [
        "permessage-deflate x",
        "permessage-deflate;",
        "permessage-deflate; server_max_window_bits=",
        'permessage-deflate; server_max_window_bits="10',
        "permessage-deflate; =10",
        "permessage-deflate, ;",
        "; client_max_window_bits",
        "permessage-deflate, ü",
        "permessage-deflate\n",
        "\n",
    ],
)
def test_malformed_field_is_an_error(offers: str) -> None:
    with pytest.raises(ValueError, match="malformed"):
        agreement(offers.encode())


PIECES = [
    "permessage-deflate",
    "client_max_window_bits",
    "server_max_window_bits",
    "9",
    "=",
    ";",
    ",",
    '"',
    "\\",
    " ",
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12))
def test_any_field_is_answered_or_malformed(pieces: list[str]) -> None:
    offers = "".join(pieces).encode()
    try:
        agreed = agreement(offers)
    except ValueError:
        return
    assert agreed is None or b"permessage-deflate" in offers


@pytest.mark.parametrize(
    "offers", [b";" + b" " * 60_000, b"a" + b";a" * 30_000 + b'"', b"a;b=" + b'"\\' * 30_000]
)
def test_long_malformed_field_takes_no_longer_than_its_length(offers: bytes) -> None:
    for _ in range(20):
        with pytest.raises(ValueError, match="malformed"):
            agreement(offers)


AGREEMENTS = st.builds(
    Agreement,
    st.integers(9, 12),
    st.none() | st.integers(8, 12),
    st.booleans(),
    st.booleans(),
)
CONTENT = st.one_of(
    st.text(max_size=200),
    st.binary(max_size=200),
    st.integers(1, 300_000).map(bytes),
    st.sampled_from([os.urandom(5000), os.urandom(100_000), b"abc" * 50_000]),
)
FLUSHES = st.sampled_from([zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH])


class Client:
    """Compresses as a client may, and decompresses."""

    def __init__(self, agreed: Agreement) -> None:
        self._agreed = agreed
        self._deflate: zlib._Compress | None = None
        self._inflate = zlib.decompressobj(-agreed.server_window_bits)

    def compress(self, data: bytes, flush: int) -> bytes:
        if self._deflate is None or self._agreed.client_no_context_takeover:
            self._deflate = zlib.compressobj(wbits=-max(9, self._agreed.client_window_bits or 15))
        result = self._deflate.compress(data) + self._deflate.flush(flush)
        if flush == zlib.Z_FINISH:  # a final block, so an empty one follows (RFC 7692 §7.2.3.4)
            self._deflate = None
            return result + b"\x00"
        return result.removesuffix(TAIL)

    def decompress(self, data: bytes) -> bytes:
        if self._agreed.server_no_context_takeover:
            self._inflate = zlib.decompressobj(-self._agreed.server_window_bits)
        return self._inflate.decompress(data + TAIL)


def inflated(inflater: Inflater, payload: bytes, opcode: int = BINARY) -> str | bytes:
    inflation = inflater.inflation(Compressed(opcode, payload))
    while (content := inflation.step()) is None:
        pass
    return content


@given(AGREEMENTS, st.lists(st.tuples(CONTENT, FLUSHES), min_size=1, max_size=4))
def test_messages_of_a_client_are_decompressed(
    agreed: Agreement, messages: list[tuple[str | bytes, int]]
) -> None:
    client, inflater = Client(agreed), Inflater(agreed, 300_000)
    for content, flush in messages:
        data, opcode = (content.encode(), TEXT) if isinstance(content, str) else (content, BINARY)
        assert inflated(inflater, client.compress(data, flush), opcode) == content


@given(AGREEMENTS, st.lists(CONTENT, min_size=1, max_size=4))
async def test_messages_of_the_server_can_be_decompressed(
    agreed: Agreement, messages: list[str | bytes]
) -> None:
    client, deflater = Client(agreed), Deflater(agreed)
    for content in messages:
        data = content.encode() if isinstance(content, str) else content
        assert client.decompress(await deflater.deflate(data)) == data


@pytest.mark.parametrize("keeps", [True, False])
async def test_context_is_kept_unless_agreed_otherwise(keeps: bool) -> None:
    data = os.urandom(500)
    deflater = Deflater(Agreement(server_no_context_takeover=not keeps))
    first, second = await deflater.deflate(data), await deflater.deflate(data)
    assert (len(second) < 50) == keeps
    assert keeps or first == second


@pytest.mark.parametrize(("bits", "distance"), [(None, 32_000), (12, 3800), (8, 200)])
def test_client_may_refer_to_all_of_its_window(bits: int | None, distance: int) -> None:
    agreed = Agreement(client_window_bits=bits)
    data = os.urandom(distance) * 2
    payload = Client(agreed).compress(data, zlib.Z_SYNC_FLUSH)
    assert len(payload) < 1.5 * distance
    assert inflated(Inflater(agreed, 100_000), payload) == data


def test_client_may_not_refer_to_messages_whose_context_it_said_to_drop() -> None:
    client, data = Client(Agreement()), os.urandom(500)
    first, second = (client.compress(data, zlib.Z_SYNC_FLUSH) for _ in range(2))
    inflater = Inflater(Agreement(client_no_context_takeover=True), 1000)
    assert inflated(inflater, first) == data
    with pytest.raises(FrameError) as raised:
        inflated(inflater, second)
    assert raised.value.code == INVALID_DATA


@pytest.mark.parametrize("size", [999, 1000, 1001, STEP, STEP + 1])
def test_limit_is_that_of_the_decompressed_message(size: int) -> None:
    agreed = Agreement()
    payload = Client(agreed).compress(bytes(size), zlib.Z_SYNC_FLUSH)
    assert inflated(Inflater(agreed, size), payload) == bytes(size)
    with pytest.raises(FrameError) as raised:
        inflated(Inflater(agreed, size - 1), payload)
    assert raised.value.code == TOO_BIG


def test_bomb_takes_no_more_memory_than_the_longest_message() -> None:
    stream = zlib.compressobj(wbits=-15)
    bomb = b"".join(stream.compress(bytes(1024 * 1024)) for _ in range(50)) + stream.flush(zlib.Z_SYNC_FLUSH)
    inflater = Inflater(Agreement(), 1024 * 1024)
    tracemalloc.start()
    try:
        with pytest.raises(FrameError) as raised:
            inflated(inflater, bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert raised.value.code == TOO_BIG
    assert peak < 2 * 1024 * 1024


def test_message_is_decompressed_in_bounded_steps() -> None:
    agreed = Agreement()
    size = 40 * STEP
    inflation = Inflater(agreed, size).inflation(
        Compressed(BINARY, Client(agreed).compress(bytes(size), zlib.Z_SYNC_FLUSH))
    )
    steps = 1
    while inflation.step() is None:
        steps += 1
    assert steps >= 40


@pytest.mark.parametrize(
    ("payload", "opcode"),
    [
        (b"\xff\xff\xff", BINARY),  # no block type
        (b"\x00\x05\x00\x00\x00hello", BINARY),  # a length and another complement
        (b"\x03\x02\x00\xff", BINARY),  # a distance beyond the beginning
        (Client(Agreement()).compress(b"\xff\xfe", zlib.Z_SYNC_FLUSH), TEXT),
        (Client(Agreement()).compress("ü".encode()[:1], zlib.Z_SYNC_FLUSH), TEXT),
        (b"\x03\x00" * 2000 + b"\x00", BINARY),  # empty final blocks, each a stream of its own
    ],
)
def test_invalid_data_has_close_code_1007(payload: bytes, opcode: int) -> None:
    with pytest.raises(FrameError) as raised:
        inflated(Inflater(Agreement(), 1_000_000), payload, opcode)
    assert raised.value.code == INVALID_DATA


def test_final_block_needs_no_empty_one_after_it() -> None:
    """RFC 7692 asks senders for it; a message is complete without."""
    inflater = Inflater(Agreement(), 1000)
    data = zlib.compress(b"hello", wbits=-12)
    assert [inflated(inflater, data), inflated(inflater, data)] == [b"hello", b"hello"]


async def test_message_after_a_cancelled_one_does_not_refer_to_it() -> None:
    deflater, client = Deflater(Agreement()), Client(Agreement())
    assert client.decompress(await deflater.deflate(b"before")) == b"before"
    lost = os.urandom(200_000)
    sending = asyncio.create_task(deflater.deflate(lost))
    await asyncio.sleep(0)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert sending.cancelled()
    end = lost[-1000:]
    assert client.decompress(await deflater.deflate(end)) == end
