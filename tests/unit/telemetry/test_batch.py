"""What is noted is accounted for once, in order, and never piles up."""

from __future__ import annotations

from msctl.telemetry.tracing.batch import Journal


def test_notes_wait_for_somebody_to_look() -> None:
    seen: list[list[int]] = []
    journal = Journal(seen.append, batch=10)
    journal.note(1)
    journal.note(2)
    assert seen == []
    journal.settle()
    journal.settle()
    assert seen == [[1, 2]]


def test_notes_do_not_pile_up_where_nobody_looks() -> None:
    seen: list[list[int]] = []
    journal = Journal(seen.append, batch=3)
    for number in range(7):
        journal.note(number)
    assert seen == [[0, 1, 2], [3, 4, 5]]


def test_what_is_noted_while_accounts_are_made_waits_for_the_next_time() -> None:
    seen: list[int] = []

    def account(notes: list[int]) -> None:
        seen.extend(notes)
        if notes == [1]:
            journal.note(2)

    journal = Journal(account, batch=10)
    journal.note(1)
    journal.settle()
    assert seen == [1]
    journal.settle()
    assert seen == [1, 2]
