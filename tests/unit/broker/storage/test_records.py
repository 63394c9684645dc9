"""Records: everything that is stored is read back equal, and no bytes raise anything but one error."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from msctl.broker.core.journal import StoredDelay
from msctl.broker.storage.blocks import DamagedError
from msctl.broker.storage.records import (
    REMOVED,
    Item,
    StoredBinding,
    StoredExchange,
    StoredMeta,
    StoredQueue,
    item_record,
    message_head,
    numbers_record,
    puts,
)
from msctl.broker.storage.replay import Replay

names = st.text(max_size=20) | st.just("\udcff\udc80 not UTF-8")
tables = st.dictionaries(
    st.binary(max_size=10),
    st.tuples(st.just("S"), st.binary(max_size=20)) | st.tuples(st.just("l"), st.integers(-9, 9)),
    max_size=3,
)
items = (
    st.builds(StoredQueue, names, names, st.booleans(), tables)
    | st.builds(StoredExchange, names, names, st.just("topic"), st.booleans(), st.booleans(), tables)
    | st.builds(StoredBinding, names, names, names, st.sampled_from(["queue", "exchange"]), names, tables)
    | st.builds(StoredMeta, names, names, st.binary(max_size=30))
    | st.builds(
        StoredDelay,
        names,
        names,
        st.floats(0, 1e10),
        st.integers(0, 1 << 32),
        st.lists(names, max_size=3).map(tuple),
        *(st.binary(max_size=20),) * 3,
        st.none() | st.integers(0, 1 << 40),
        st.integers(0, 255),
    )
)


@given(items)
def test_items_are_read_back_equal(item: Item) -> None:
    replay = Replay()
    replay.apply(item_record(5, item), 1, 1)
    assert replay.items == {5: item}
    replay.apply(numbers_record(REMOVED, [5]), 1, 1)
    assert replay.items == {}


def queues(*numbers: int) -> bytes:
    return b"".join(item_record(n, StoredQueue("/", f"q{n}", False, {})) for n in numbers)


def test_a_message_of_several_queues_is_stored_once_and_read_back_in_each() -> None:
    content = (b"\x00\x01k", b"\x00\x00", b"body")
    record = message_head(*content, [(3, 1, 0.0), (4, 2, 12.5)]) + b"".join(content)
    assert record.count(b"body") == 1
    replay = Replay()
    replay.apply(queues(1, 2) + record, 1, 1)
    assert replay.in_order(1) == [(*content, None, 3)]
    assert replay.in_order(2) == [(*content, 12.5, 4)]
    (put,) = [put for put in puts(queues(1, 2) + record) if put.entries[0][1]]
    again = b"".join(put.again(queues(1, 2) + record, [(4, 2, 12.5)]))
    other = Replay()
    other.apply(queues(2) + again, 1, 1)
    assert other.in_order(2) == [(*content, 12.5, 4)]


@given(st.binary(max_size=120))
def test_bytes_that_are_no_records_raise_one_error(payload: bytes) -> None:
    for data in (payload, queues(1) + payload):
        try:
            Replay().apply(data, 1, 1)
        except DamagedError:
            pass
        try:
            list(puts(data))
        except DamagedError:
            pass
