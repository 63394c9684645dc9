"""`send` and `consume` as a user types them, in processes of their own, against a real RabbitMQ."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Msctl
from tests.support.ports import reserved_port
from tests.support.rabbitmq import unique

WAITING = "Waiting for messages. To exit press CTRL+C\n"


@pytest.fixture
def queue() -> str:
    return unique()


@pytest.fixture
def msctl(rabbitmq: str, queue: str, tmp_path: Path) -> Iterator[Msctl]:
    """The command line, on a queue of this test's own; what is left in it is thrown away."""
    env = {"AMQP_URL": rabbitmq, "MSCTL_SEND_QUEUE": queue, "MSCTL_CONSUME_QUEUE": queue}
    made = Msctl(tmp_path, tmp_path / "run", env)
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


def test_the_courses_queue_is_the_default(rabbitmq: str, tmp_path: Path) -> None:
    msctl = Msctl(tmp_path, tmp_path / "run", {"AMQP_URL": rabbitmq})
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


def test_standard_input_is_one_message_byte_for_byte(msctl: Msctl) -> None:
    body = bytes(range(256)) + b"\n"
    sent = msctl.run("send", "-", stdin=body)
    assert sent.returncode == 0
    assert "\x1b" not in sent.stdout
    assert "\\x1b" in sent.stdout
    command = msctl.command("consume", "-n", "1", "-o", "raw")
    got = subprocess.run(command, env=msctl.env, cwd=msctl.folder, capture_output=True, timeout=60)
    assert got.stdout == body + b"\n"


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
    script = f"""
import asyncio, aio_pika
async def main():
    async with await aio_pika.connect({url!r}) as connection:
        channel = await connection.channel()
        await channel.declare_queue({queue!r}, arguments={{
            "x-max-length": {limit}, "x-overflow": "reject-publish", "x-expires": 60000}})
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("send",), "nothing to send"),
        (("send", "x", "--file", "y"), "cannot both be sent"),
        (("send", "-", "--lines", "-n", "2"), "cannot go with --lines"),
        (("send", "--file", "/no/such/file"), "/no/such/file cannot be read: No such file"),
        (("send", "--file", "/"), "/ cannot be read: Is a directory"),
        (("send", "x", "--header", "novalue"), "not written as NAME=VALUE"),
        (("send", "x", "--property", "prioritty=1"), "did you mean priority?"),
        (("send", "x", "--property", "priority=256"), "not a number of 0 to 255"),
        (("send", "x", "--property", "timestamp=soon"), "not a time"),
        (("send", "x", "--rate", "fast"), "not a number of messages per second"),
        (("send", "x", "--timeout", "never"), "not a duration"),
        (("send", "x", "--timeout", "0"), "no time at all"),
        (("send", "x", "--queue", ""), "a queue needs a name"),
        (("send", "x", "--queue", "q" * 256), "longer than the 255 bytes"),
        (("send", "x", "--url", "http://localhost"), "http://, expected amqp://"),
        (("consume", "--ack", "maybe"), "none of auto, manual, reject, requeue"),
        (("consume", "--idle-timeout", "x"), "not a duration"),
        (("consume", "--prefetch", "0"), "prefetch"),
        (("consume", "-o", "yaml"), "yaml"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(tmp_path: Path, args: tuple[str, ...], words: str) -> None:
    done = Msctl(tmp_path, tmp_path / "run", {}).run(*args)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", [("send", "x"), ("consume",)])
def test_no_broker_is_exit_code_6_with_a_hint_and_without_the_password(
    tmp_path: Path, verb: tuple[str, ...]
) -> None:
    with reserved_port() as port:
        done = Msctl(tmp_path, tmp_path / "run", {"AMQP_URL": f"amqp://me:hunter2@127.0.0.1:{port}/"}).run(
            *verb
        )
    assert done.returncode == 6
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: no broker listens at 127.0.0.1:{port}: connection refused\nhint: ")
    assert "hunter2" not in done.stderr


def test_a_wrong_password_is_exit_code_6(msctl: Msctl, rabbitmq: str) -> None:
    done = msctl.run("send", "x", "--url", rabbitmq.replace("guest:guest", "guest:hunter2"))
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
    assert "3 messages were shown and put back" in done.stderr
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
    assert "error: no message came for 0.3 s: 1 of 2 were received" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_consume_with_0_and_loses_nothing(msctl: Msctl, number: signal.Signals) -> None:
    with msctl.process("consume", "-o", "raw") as consumer:
        consumer.line("stderr", WAITING.strip())
        msctl.ok("send", "1")
        consumer.line("stdout", "1")
        consumer.signal(number)
        _, errors = consumer.child.communicate(timeout=60)
        assert consumer.child.returncode == 0
    assert errors == b""
    msctl.ok("send", "2")
    assert drain(msctl) == ["2"]


def test_messages_printed_below_a_limit_do_not_come_again(msctl: Msctl) -> None:
    with msctl.process("consume", "-n", "5", "-o", "raw") as consumer:
        consumer.line("stderr", WAITING.strip())
        msctl.ok("send", "-", "--lines", stdin=lines(2))
        consumer.line("stdout", "2")
        consumer.signal()
        assert consumer.wait() == 0
    assert drain(msctl) == []


def test_a_closed_pipe_ends_consume_quietly_and_keeps_the_rest(msctl: Msctl) -> None:
    msctl.ok("send", "-", "--lines", stdin=lines(50_000))
    consumer = subprocess.Popen(
        msctl.command("consume", "-o", "raw"),
        cwd=msctl.folder,
        env=msctl.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert consumer.stdout is not None
    assert consumer.stderr is not None
    assert os.read(consumer.stdout.fileno(), 2) == b"1\n"
    consumer.stdout.close()
    assert consumer.wait(60) == 0
    assert consumer.stderr.read().decode() == WAITING
    consumer.stderr.close()
    left = drain(msctl)
    # What fitted into the pipe is gone with its reader; all else is there, in order.
    assert left == [str(n) for n in range(int(left[0]), 50_001)]
    assert int(left[0]) < 30_000


def test_ctrl_c_in_the_middle_of_send_says_what_was_confirmed(msctl: Msctl) -> None:
    child = subprocess.Popen(
        msctl.command("send", "-", "--lines"),
        cwd=msctl.folder,
        env=msctl.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdin is not None
    child.stdin.write(lines(3))
    child.stdin.flush()
    assert msctl.ok("consume", "-n", "3", "-o", "raw") == "1\n2\n3\n"
    child.send_signal(signal.SIGINT)
    output, errors = child.communicate(timeout=60)
    assert (child.returncode, output, errors) == (130, b"", b"interrupted: 3 confirmed\n")


def test_a_deleted_queue_ends_consume_with_words(msctl: Msctl, queue: str) -> None:
    script = f"""
import asyncio, aio_pika
async def main():
    async with await aio_pika.connect({msctl.env["AMQP_URL"]!r}) as connection:
        channel = await connection.channel()
        await channel.queue_delete({queue!r})
asyncio.run(main())
"""
    with msctl.process("consume") as consumer:
        consumer.line("stderr", WAITING.strip())
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
        consumer.line("stderr", f"error: the broker cancelled the consumer: queue '{queue}' was deleted")
        assert consumer.wait() == 6


def test_importing_the_verbs_imports_no_event_loop_and_no_amqp() -> None:
    code = (
        "import sys, msctl.cli.verbs.messaging\n"
        "heavy = ('asyncio', 'aiohttp', 'aio_pika', 'aiormq', 'pamqp', 'uvloop')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n"
