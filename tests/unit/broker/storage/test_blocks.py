"""The framing: whole blocks are found whatever follows them, and nothing that was not written is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.broker.storage.blocks import (
    SEGMENT_HEADER,
    BlockWriter,
    Header,
    OtherVersionError,
    SegmentInfo,
    Tail,
    read_segment_header,
    scan,
    segment_header,
)

INFO = SegmentInfo(7, 3, 100)
PAYLOADS = (b"first", b"", b"\xb1LK\n the mark of a block", b"x" * 40)


def segment(*payloads: bytes, limit: int = 1000) -> bytes:
    data = segment_header(INFO)
    for payload in payloads:
        block = BlockWriter([payload[:3], payload[3:]], len(payload), INFO, len(data))
        while part := block.take(limit):
            data += part
    return data


def found(data: bytes) -> list[bytes]:
    return [data[start:end] for start, end in scan(data, 7).blocks]


def test_blocks_are_found_in_order_with_the_first_segment_of_the_log() -> None:
    data = segment(*PAYLOADS)
    result = scan(data, 7)
    assert found(data) == list(PAYLOADS)
    assert (result.tail, result.end, result.first, result.damaged) == (Tail.WHOLE, len(data), 3, [])


@given(st.binary(max_size=300), st.integers(1, 40))
def test_a_block_written_in_slices_is_the_same(payload: bytes, limit: int) -> None:
    assert segment(payload, limit=limit) == segment(payload)


def test_a_segment_cut_at_any_byte_has_the_blocks_that_are_whole_and_a_torn_end() -> None:
    data = segment(*PAYLOADS)
    ends = [end + 4 for _, end in scan(data, 7).blocks]
    for size in range(SEGMENT_HEADER.size, len(data)):
        result = scan(data[:size], 7)
        whole = [end for end in ends if end <= size]
        assert len(result.blocks) == len(whole)
        assert result.end == (whole[-1] if whole else SEGMENT_HEADER.size)
        assert result.tail is (Tail.WHOLE if size == result.end else Tail.TORN)
        assert result.damaged == []


def test_zeros_after_the_last_block_are_a_torn_end() -> None:
    assert scan(segment(b"a") + bytes(100), 7).tail is Tail.TORN


def test_any_flipped_bit_is_noticed_and_costs_the_block_it_is_in() -> None:
    data = segment(*PAYLOADS)
    for at in range(SEGMENT_HEADER.size, len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            result = scan(bytes(changed), 7)
            assert len(result.blocks) == len(PAYLOADS) - 1
            assert result.damaged or result.tail is Tail.TORN
            if at < len(data) - len(PAYLOADS[-1]):
                assert result.damaged


@given(st.binary(max_size=200))
def test_any_bytes_are_scanned_without_an_exception(garbage: bytes) -> None:
    assert len(scan(segment(b"a") + garbage, 7).blocks) == 1


def test_a_block_of_another_place_or_segment_is_none() -> None:
    data = segment(b"a", b"b")
    assert scan(data, 8).blocks == []
    block = data[SEGMENT_HEADER.size : SEGMENT_HEADER.size + 29]
    assert len(scan(segment(b"a") + b"-" + block, 7).blocks) == 1


def test_a_header_is_read_damaged_incomplete_or_of_another_version() -> None:
    head = segment_header(INFO)
    assert read_segment_header(head, 7) == INFO
    assert read_segment_header(head, 8) is Header.DAMAGED
    for size in range(len(head)):
        assert read_segment_header(head[:size], 7) is Header.INCOMPLETE
    for at in range(len(head)):
        changed = bytearray(head)
        changed[at] ^= 0x80
        if 8 <= at < 12:
            continue  # the version, see below
        assert read_segment_header(bytes(changed), 7) is Header.DAMAGED
    with pytest.raises(OtherVersionError) as caught:
        read_segment_header(head[:8] + b"\x02\0\0\0" + head[12:], 7)
    assert caught.value.args == (2,)
