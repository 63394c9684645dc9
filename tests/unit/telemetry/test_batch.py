"""Items are processed once, in order, and never accumulate."""

from __future__ import annotations

from msctl.telemetry.tracing.batch import Batch


def test_items_are_processed_on_flush() -> None:
    seen: list[list[int]] = []
    batch = Batch(seen.append, size=10)
    batch.add(1)
    batch.add(2)
    assert seen == []
    batch.flush()
    batch.flush()
    assert seen == [[1, 2]]


def test_a_full_batch_is_processed_without_a_flush() -> None:
    seen: list[list[int]] = []
    batch = Batch(seen.append, size=3)
    for number in range(7):
        batch.add(number)
    assert seen == [[0, 1, 2], [3, 4, 5]]


def test_items_added_during_processing_wait_for_the_next_flush() -> None:
    seen: list[int] = []

    def process(items: list[int]) -> None:
        seen.extend(items)
        if items == [1]:
            batch.add(2)

    batch = Batch(process, size=10)
    batch.add(1)
    batch.flush()
    assert seen == [1]
    batch.flush()
    assert seen == [1, 2]
