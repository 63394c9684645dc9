"""The error of a failed send accounts for every message."""

from __future__ import annotations

from pathlib import Path

import pytest

from msctl.amqp.publisher import PublishStats, RefusedMessage
from msctl.cli.messaging.sending import SendRequest, failure, send_messages
from msctl.cli.options.message_options import MessageProperties
from msctl.errors import BrokerError, MsctlError, TimedOutError, UsageError
from tests.support.fake_broker import FakeBroker, fake_broker, limited, silence


def request(
    url: str = "amqp://h/",
    *,
    by_line: bool = True,
    count: int = 1,
    confirm: bool = True,
    file: Path | None = None,
    text: bytes | None = None,
    timeout: float = 30.0,
) -> SendRequest:
    return SendRequest(
        url=url,
        queue=None,
        exchange="",
        key="q",
        properties=MessageProperties(),
        text=text,
        file=file,
        by_line=by_line,
        count=count,
        rate=None,
        confirm=confirm,
        timeout=timeout,
    )


def test_one_refused_line_is_named_with_what_was_confirmed() -> None:
    error = failure(request(), PublishStats(5, 4, 1, (RefusedMessage(5, "too large"),)), None)
    assert isinstance(error, BrokerError)
    assert error.message == (
        "line 5 was refused: too large; 4 lines were confirmed; nothing after line 5 was sent"
    )


def test_further_refusals_are_counted() -> None:
    error = failure(
        request(), PublishStats(9, 1, 8, (RefusedMessage(2, "no"), RefusedMessage(3, "no"))), None
    )
    assert error.message.startswith("line 2 was refused: no; 7 more were refused; 1 line was confirmed")


def test_unconfirmed_messages_are_reported_as_unknown() -> None:
    lost = BrokerError("the connection was lost", hint="look at it")
    error = failure(request(), PublishStats(8, 5, 0, (), (6, 7, 8)), lost)
    assert error.message == (
        "the connection was lost; 5 lines were confirmed; 3 lines were sent but not confirmed "
        "(lines 6 to 8), and may or may not have arrived; nothing after line 8 was sent"
    )
    assert error.hint == "look at it"


def test_gaps_among_unconfirmed_messages_are_shown() -> None:
    error = failure(request(), PublishStats(8, 6, 0, (), (3, 8)), BrokerError("lost"))
    assert "2 lines were sent but not confirmed (between line 3 and line 8)" in error.message


def test_a_single_message_is_not_numbered() -> None:
    single = request(by_line=False)
    assert (
        failure(single, PublishStats(1, 0, 1, (RefusedMessage(1, "no"),)), None).message
        == "the message was refused: no"
    )
    lost = failure(single, PublishStats(1, 0, 0, (), (1,)), BrokerError("lost"))
    assert lost.message == "lost; 1 message was sent but not confirmed, and may or may not have arrived"


@pytest.mark.parametrize("kind", [TimedOutError, UsageError, BrokerError])
def test_the_kind_of_failure_keeps_its_exit_code(kind: type[MsctlError]) -> None:
    assert type(failure(request(), PublishStats(), kind("x"))) is kind


def lines(folder: Path, *sizes: int) -> Path:
    path = folder / "lines"
    path.write_bytes(b"".join(b"x" * size + b"\n" for size in sizes))
    return path


async def sent(broker: FakeBroker, path: Path, timeout: float = 30.0) -> MsctlError:
    with pytest.raises(MsctlError) as failed:
        await send_messages(request(broker.url, file=path, timeout=timeout))
    return failed.value


async def test_a_line_over_the_brokers_limit_is_refused_and_nothing_after_it_is_sent(tmp_path: Path) -> None:
    async with fake_broker(limited(2_000_000)) as broker:
        error = await sent(broker, lines(tmp_path, 1, 1, 1, 1, 2_000_001, 1))
    assert error.message == (
        "line 5 was refused: message size 2000001 is larger than configured max size 2000000; "
        "4 lines were confirmed; nothing after line 5 was sent"
    )
    assert error.exit_code == 6


async def test_silent_broker_is_exit_code_124(tmp_path: Path) -> None:
    async with fake_broker(silence) as broker:
        error = await sent(broker, lines(tmp_path, 1, 1), timeout=0.2)
    assert error.exit_code == 124
    assert "2 lines were sent but not confirmed (lines 1 to 2)" in error.message


async def test_lines_of_a_text_are_separate_messages() -> None:
    async with fake_broker() as broker:
        result = await send_messages(request(broker.url, text=b"a\nb"))
    assert result.stats.confirmed == 2
