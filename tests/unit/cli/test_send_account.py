"""Every message of a send is accounted for, over as many connections as it takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from msctl.amqp.publisher import PublishStats, RefusedMessage
from msctl.cli.messaging.send_account import SendAccount


def test_what_has_no_answer_is_sent_again_under_its_number() -> None:
    account = SendAccount()
    account.add(PublishStats(5, 3, 0, (), (4, 5)), [(4, b"d"), (5, b"e")])
    assert account.unconfirmed == [(4, b"d"), (5, b"e")]
    assert account.sent_with(1) == 5
    assert account.sent_with(3) == 6
    account.add(PublishStats(4, 3, 1, (RefusedMessage(4, "no"),), ()), [])
    assert (account.sent, account.confirmed, account.refused) == (7, 6, 1)
    assert account.refusals == [RefusedMessage(7, "no")]
    assert account.repeated == [4, 5]
    assert account.unconfirmed == []


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=6))
def test_no_message_is_lost_between_connections(attempts: list[tuple[int, int]]) -> None:
    account, following = SendAccount(), 1
    for new, unanswered in attempts:
        again = len(account.unconfirmed)
        sent = again + new
        local = list(range(max(1, sent - unanswered + 1), sent + 1))
        account.add(PublishStats(sent, sent - len(local)), [(one, b"") for one in local])
        following += new
        assert account.sent == following - 1
        assert account.confirmed + len(account.unconfirmed) == account.sent
        assert [number for number, _ in account.unconfirmed] == list(
            range(following - len(account.unconfirmed), following)
        )


def test_a_connection_lost_while_sending_again_keeps_the_rest() -> None:
    account = SendAccount()
    account.add(PublishStats(3, 0, 0, (), (1, 2, 3)), [(1, b"a"), (2, b"b"), (3, b"c")])
    account.add(PublishStats(1, 0, 0, (), (1,)), [(1, b"a")])
    assert account.unconfirmed == [(1, b"a"), (2, b"b"), (3, b"c")]
    assert account.sent == 3
    assert account.repeated == [1]
