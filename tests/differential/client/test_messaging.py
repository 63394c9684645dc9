"""`send` and `consume` as a user types them, against either broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from tests.support.broker import running_embedded
from tests.support.cli import InProcess, Msctl
from tests.support.rabbitmq import own_vhost, unique

WAITING = "Waiting for messages. To exit press CTRL+C\n"


@pytest.fixture(params=[pytest.param("rabbitmq", marks=pytest.mark.rabbitmq), "embedded"])
def amqp_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Either broker; ours in a thread, because a verb has the loop of this one."""
    if request.param == "rabbitmq":
        with own_vhost(request.getfixturevalue("rabbitmq_node")) as url:
            yield url
        return
    with running_embedded() as url:
        yield url


@pytest.fixture
def queue() -> str:
    return unique()


@pytest.fixture
def msctl(amqp_url: str, queue: str, tmp_path: Path) -> Iterator[Msctl]:
    """The command line, on a queue of this test's own; what is left in it is thrown away."""
    env = {"AMQP_URL": amqp_url, "MSCTL_SEND_QUEUE": queue, "MSCTL_CONSUME_QUEUE": queue}
    made = InProcess(tmp_path, tmp_path / "run", env)
    yield made
    made.run("consume", "--exit-on-empty", "--ack", "reject", env=env)


def drain(msctl: Msctl) -> list[str]:
    return msctl.ok("consume", "--exit-on-empty", "-o", "raw").splitlines()


def lines(number: int) -> bytes:
    return b"".join(b"%d\n" % n for n in range(1, number + 1))


def test_a_message_goes_there_and_back(msctl: Msctl) -> None:
    sent = msctl.run("send", "Hello World!")
    assert (sent.returncode, sent.stdout, sent.stderr) == (0, "Sent: Hello World!\n", "")
    got = msctl.run("consume", "-n", "1")
    assert (got.returncode, got.stdout, got.stderr) == (0, "Received a message: Hello World!\n", WAITING)


def test_the_courses_queue_is_the_default(amqp_url: str, tmp_path: Path) -> None:
    msctl = InProcess(tmp_path, tmp_path / "run", {"AMQP_URL": amqp_url})
    msctl.ok("send", "to hello")
    document = json.loads(msctl.ok("consume", "-n", "1", "-o", "json"))
    assert (document["routing_key"], document["exchange"], document["body"]) == ("hello", "", "to hello")
    assert document["properties"]["content_type"] == "text/plain"


def test_the_option_names_another_queue_and_wins_over_its_variable(msctl: Msctl) -> None:
    other = unique()
    msctl.ok("send", "x", "--queue", other)
    assert drain(msctl) == []
    assert msctl.ok("consume", "-n", "1", "--queue", other, "-o", "raw") == "x\n"


def test_each_line_is_a_message_and_order_is_kept(msctl: Msctl) -> None:
    sent = msctl.run("send", "-", "--lines", stdin=lines(5000))
    assert (sent.returncode, sent.stdout, sent.stderr) == (0, "Sent 5000 messages\n", "")
    assert msctl.ok("consume", "-n", "5000", "-o", "raw").encode() == lines(5000)


def test_a_last_line_without_an_end_and_empty_lines_count(msctl: Msctl) -> None:
    msctl.ok("send", "-", "--lines", stdin=b"a\n\nb")
    assert drain(msctl) == ["a", "", "b"]


def test_a_file_is_one_message_or_its_lines(msctl: Msctl) -> None:
    path = msctl.folder / "body.txt"
    path.write_bytes(b"one\ntwo\n")
    assert msctl.ok("send", "--file", str(path)) == "Sent: one\ntwo\n"
    assert msctl.ok("send", "--file", str(path), "--lines") == "Sent 2 messages\n"
    assert drain(msctl) == ["one", "two", "", "one", "two"]


def test_count_repeats_and_rate_is_obeyed(msctl: Msctl) -> None:
    assert msctl.ok("send", "x", "-n", "3", "--rate", "1000") == "Sent 3 messages\n"
    assert drain(msctl) == ["x", "x", "x"]


def test_properties_and_headers_arrive_with_their_types(msctl: Msctl) -> None:
    msctl.ok(
        "send", "x", "--header", "k=v=w", "--header", "é=ü", "--persistent",
        "--property", "priority=7", "--property", "correlation_id=c",
        "--property", "timestamp=2026-01-02T03:04:05Z",
        "--property", "message-id=m", "--property", "type=t", "--property", "expiration=60000",
        "--content-type", "application/json",
    )  # fmt: skip
    document = json.loads(msctl.ok("consume", "-n", "1", "-o", "json"))
    assert document["headers"] == {"k": "v=w", "é": "ü"}
    assert document["properties"] == {
        "content_type": "application/json",
        "correlation_id": "c",
        "delivery_mode": 2,
        "expiration": "60000",
        "message_id": "m",
        "priority": 7,
        "timestamp": "2026-01-02T03:04:05Z",
        "type": "t",
    }


def test_a_body_that_is_not_utf_8_is_base64_in_json(msctl: Msctl) -> None:
    msctl.ok("send", "-", stdin=b"\xff\x00")
    document = json.loads(msctl.ok("consume", "-n", "1", "-o", "json"))
    assert (document["body"], document["body_encoding"]) == ("/wA=", "base64")


def test_without_confirms_messages_still_arrive(msctl: Msctl) -> None:
    assert msctl.ok("send", "-", "--lines", "--no-confirm", stdin=lines(200)) == "Sent 200 messages\n"
    assert len(drain(msctl)) == 200


def test_a_message_that_no_queue_takes_is_an_error(msctl: Msctl) -> None:
    sent = msctl.run("send", "x", "--exchange", "amq.direct", "--key", "nowhere", "--queue", unique())
    assert sent.returncode == 6
    assert sent.stdout == ""
    assert sent.stderr == (
        "error: the message was refused: routing key 'nowhere' matches no queue at exchange 'amq.direct'\n"
    )


def test_a_missing_exchange_is_named_before_anything_is_sent(msctl: Msctl) -> None:
    sent = msctl.run("send", "-", "--lines", "--exchange", "nope", stdin=lines(3))
    assert sent.returncode == 6
    assert "no exchange 'nope'" in sent.stderr
    assert "confirmed" not in sent.stderr


def test_the_line_that_was_refused_is_named_with_what_was_confirmed(msctl: Msctl) -> None:
    full = unique()
    # The first four fit; the queue then refuses what comes.
    declare_limited(msctl.env["AMQP_URL"], full, 4)
    sent = msctl.run("send", "-", "--lines", "--queue", full, "--rate", "200", stdin=lines(20))
    assert sent.returncode == 6
    assert "error: line 5 was refused: the broker refused it (nack)" in sent.stderr
    assert "4 lines were confirmed" in sent.stderr


def declare_limited(url: str, queue: str, limit: int) -> None:
    """A queue that refuses what comes when it holds `limit` messages."""

    async def declare() -> None:
        async with await aio_pika.connect(url) as connection:
            channel = await connection.channel()
            arguments: dict[str, Any] = {
                "x-max-length": limit,
                "x-overflow": "reject-publish",
                "x-expires": 60000,
            }
            await channel.declare_queue(queue, arguments=arguments)

    asyncio.run(declare())


def test_a_wrong_password_is_exit_code_6(msctl: Msctl, amqp_url: str) -> None:
    done = msctl.run("send", "x", "--url", amqp_url.replace("guest:guest", "guest:hunter2"))
    assert done.returncode == 6
    assert "refused to log in user 'guest'" in done.stderr
    assert "hunter2" not in done.stderr


def test_n_leaves_the_rest_in_the_queue(msctl: Msctl) -> None:
    msctl.ok("send", "-", "--lines", stdin=lines(10))
    assert msctl.ok("consume", "-n", "3", "-o", "raw") == "1\n2\n3\n"
    documents = msctl.ok("consume", "-n", "7", "-o", "json").splitlines()
    assert [json.loads(line)["body"] for line in documents] == [str(n) for n in range(4, 11)]
    assert not any(json.loads(line)["redelivered"] for line in documents)


def test_exit_on_empty_ends_at_once_with_nothing(msctl: Msctl) -> None:
    done = msctl.run("consume", "--exit-on-empty")
    assert (done.returncode, done.stdout) == (0, "")


def test_requeue_shows_and_puts_back(msctl: Msctl) -> None:
    msctl.ok("send", "-", "--lines", stdin=lines(4))
    assert msctl.ok("consume", "-n", "2", "--ack", "requeue", "-o", "raw") == "1\n2\n"
    done = msctl.run("consume", "--ack", "requeue", "--prefetch", "3", "-o", "raw")
    assert (done.returncode, done.stdout) == (0, "1\n2\n3\n")
    assert "3 messages were printed and requeued" in done.stderr
    assert drain(msctl) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("ack", ["manual", "reject"])
def test_the_other_ways_of_settling_take_the_message_too(msctl: Msctl, ack: str) -> None:
    msctl.ok("send", "-", "--lines", stdin=lines(4))
    assert msctl.ok("consume", "-n", "3", "--ack", ack, "-o", "raw") == "1\n2\n3\n"
    assert drain(msctl) == ["4"]


def test_an_idle_timeout_ends_it_and_is_a_failure_only_with_n(msctl: Msctl) -> None:
    msctl.ok("send", "x")
    done = msctl.run("consume", "--idle-timeout", "300ms", "-o", "raw")
    assert (done.returncode, done.stdout) == (0, "x\n")
    msctl.ok("send", "x")
    done = msctl.run("consume", "-n", "2", "--idle-timeout", "300ms", "-o", "raw")
    assert (done.returncode, done.stdout) == (124, "x\n")
    assert "error: no message for 0.3 s: received 1 of 2" in done.stderr
