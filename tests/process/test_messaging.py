"""`send` and `consume` in processes of their own: bytes, signals, closed pipes; against a real RabbitMQ."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Msctl
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


def test_standard_input_is_one_message_byte_for_byte(msctl: Msctl) -> None:
    body = bytes(range(256)) + b"\n"
    sent = msctl.run("send", "-", stdin=body)
    assert sent.returncode == 0
    assert "\x1b" not in sent.stdout
    assert "\\x1b" in sent.stdout
    command = msctl.command("consume", "-n", "1", "-o", "raw")
    got = subprocess.run(command, env=msctl.env, cwd=msctl.folder, capture_output=True, timeout=60)
    assert got.stdout == body + b"\n"


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
        assert consumer.wait() == 130
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
        "import sys, msctl.cli.verbs.send, msctl.cli.verbs.consume\n"
        "heavy = ('asyncio', 'aiohttp', 'aio_pika', 'aiormq', 'pamqp', 'uvloop')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n"


def test_consume_shows_on_a_terminal_what_it_received_and_what_waits(msctl: Msctl) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        msctl.command("consume", "-o", "raw", "--ack", "manual"),
        cwd=msctl.folder,
        env={**msctl.env, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as child:
        os.close(theirs)
        shown = read_until(ours, b"0 received, 0 waiting in the queue")
        msctl.ok("send", "first", "-n", "2")
        shown += read_until(ours, b"2 received, 0 waiting in the queue")
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 0
        shown += os.read(ours, 4096)
    os.close(ours)
    # The line is gone before a message is written, and at the end.
    assert b"\x1b[Kfirst\r\nfirst\r\n" in shown.replace(b"\r\x1b[K", b"\x1b[K")
    assert shown.endswith(b"\r\x1b[K")


def read_until(terminal: int, text: bytes) -> bytes:
    shown = b""
    while text not in shown:
        shown += os.read(terminal, 4096)
    return shown


def test_a_long_send_shows_its_progress_on_a_terminal_and_only_there(msctl: Msctl) -> None:
    ours, theirs = pty.openpty()
    command = msctl.command("send", "hello", "-n", "1000", "--rate", "2")
    with subprocess.Popen(
        command, cwd=msctl.folder, env={**msctl.env, "TERM": "xterm"}, stdout=subprocess.PIPE, stderr=theirs
    ) as child:
        os.close(theirs)
        shown = b""
        while b"/s" not in shown:
            shown += os.read(ours, 4096)
        child.send_signal(signal.SIGINT)
        child.wait(60)
    os.close(ours)
    assert b" sent" in shown
    quiet = msctl.run("send", "hello", "-n", "4", "--rate", "2")
    assert quiet.returncode == 0
    assert quiet.stderr == ""
