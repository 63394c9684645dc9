"""Recovery: what was written is there again, in order; damage is reported and kept, never passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from msctl.broker.storage.blocks import SEGMENT_HEADER, scan
from msctl.errors import BrokerError
from msctl.files import UntrustedPathError
from tests.support.clock import FakeClock
from tests.unit.broker.client import Client
from tests.unit.broker.storage.run import PERSISTENT, Run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "project" / "broker"


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


def filled(folder: Path, count: int, **options: int) -> None:
    run = Run(folder, **options)  # type: ignore[arg-type]  # the segment size
    run.declare()
    run.turn()
    for number in range(count):
        run.publish(b"%d" % number)
    run.kill()


def test_durable_things_and_persistent_messages_are_there_after_a_kill(folder: Path) -> None:
    run = Run(folder)
    run.declare(max_priority=("l", 5))
    run.declare("transient", durable=False)
    run.vhost.routing.declare(
        "x", "topic", passive=False, durable=True, auto_delete=True, internal=True, arguments={}
    )
    run.vhost.routing.bind("x", "q", "queue", "a.#", {b"h": ("S", b"v")}, None)
    run.vhost.routing.bind("x", "transient", "queue", "b", {}, None)
    run.vhost.routing.bind("amq.direct", "q", "queue", "gone", {}, None)
    run.vhost.routing.unbind("amq.direct", "q", "queue", "gone", {}, None)
    run.broker.add_vhost("other").declare_queue(
        "q", None, durable=True, exclusive=False, auto_delete=True, arguments={}
    )
    for body in (b"a", b"b", b"c"):
        run.publish(body)
    run.publish(b"not persistent", properties=b"\0\0")
    run.publish(b"nowhere", "transient")
    assert run.ack() == b"a"
    run.kill()

    again = Run(folder)
    assert (again.problems, again.cut) == ([], 0)
    assert again.bodies() == [b"b", b"c"]
    assert list(again.vhost.queues) == ["q"]
    assert again.vhost.queues["q"].options.max_priority == 5
    exchange = again.vhost.routing.exchanges["x"]
    assert (exchange.type, exchange.auto_delete, exchange.internal) == ("topic", True, True)
    assert [(b.key, b.arguments) for b in exchange.bindings.values()] == [("a.#", {b"h": ("S", b"v")})]
    assert not again.vhost.routing.exchanges["amq.direct"].bindings
    assert again.broker.vhosts["other"].queues["q"].auto_delete
    again.kill()


def test_the_flag_redelivered_is_kept_by_a_stop_and_set_by_a_kill(folder: Path) -> None:
    run = Run(folder)
    queue = run.declare()
    for body in (b"acknowledged", b"a", b"b", b"c"):
        run.publish(body)
    _, acknowledged = run.take()
    queue.requeue([run.take(), run.take()])
    queue.ack(acknowledged)
    run.stop()
    run = Run(folder)
    assert run.shown() == [(b"a", True), (b"b", True), (b"c", False)]
    run.stop()
    run = Run(folder)
    assert run.shown() == [(b"a", True), (b"b", True), (b"c", False)]
    run.kill()
    run = Run(folder)
    assert run.shown() == [(b"a", True), (b"b", True), (b"c", True)]
    queue = run.vhost.queues["q"]
    queue.requeue([run.take()])
    assert run.bodies() == [b"a", b"b", b"c"]
    run.kill()


def test_unacknowledged_messages_return_to_their_place(folder: Path) -> None:
    run = Run(folder)
    run.declare()
    for body in (b"a", b"b", b"c", b"d"):
        run.publish(body)
    run.take()
    assert run.ack() == b"b"
    run.take()
    run.publish(b"e")
    run.kill()
    assert Run(folder).bodies() == [b"a", b"c", b"d", b"e"]


def test_a_purge_keeps_what_is_unacknowledged_and_a_deleted_queue_leaves_nothing(folder: Path) -> None:
    run = Run(folder)
    run.declare()
    run.declare("other")
    for number in range(20):
        run.publish(b"%d" % number, "q", "other")
    run.take()
    assert run.vhost.queues["q"].purge() == 19
    run.publish(b"later")
    run.vhost.delete_queue(run.vhost.queues["other"])
    run.turn()
    assert run.storage.journal.messages == 2
    run.kill()
    again = Run(folder)
    assert again.bodies() == [b"0", b"later"]
    assert list(again.vhost.queues) == ["q"]
    assert again.storage.journal.messages == 2
    again.kill()


def test_time_to_live_goes_on_while_nothing_runs(folder: Path) -> None:
    clock = FakeClock()
    run = Run(folder, clock)
    run.declare()
    run.publish(b"short", ttl=5_000)
    run.publish(b"long", ttl=60_000)
    run.publish(b"for ever")
    run.kill()
    clock.set(10)
    run = Run(folder, clock)
    run.broker.tick()
    assert run.bodies() == [b"long", b"for ever"]
    clock.set(61)
    run.broker.tick()
    assert run.bodies() == [b"for ever"]
    run.kill()


def test_an_expired_message_is_dead_lettered_in_the_log_too(folder: Path) -> None:
    clock = FakeClock()
    run = Run(folder, clock)
    run.declare(dead_letter_exchange=("S", b""), dead_letter_routing_key=("S", b"dead"))
    run.declare("dead")
    run.publish(b"short", ttl=1_000)
    clock.set(2)
    run.broker.tick()
    run.turn()
    run.kill()
    run = Run(folder, clock)
    assert (run.bodies(), run.bodies("dead")) == ([], [b"short"])
    (message, _) = next(run.vhost.queues["dead"].ready.waiting())
    assert b"x-death" in message[1]
    run.kill()


def test_drop_head_and_priorities_are_kept(folder: Path) -> None:
    run = Run(folder)
    run.declare(max_length=("l", 2))
    for body in (b"a", b"b", b"c"):
        run.publish(body)
    run.declare("urgent", max_priority=("l", 9))
    run.publish(b"low", "urgent", properties=b"\x18\x00\x02\x01")
    run.publish(b"high", "urgent", properties=b"\x18\x00\x02\x09")
    run.kill()
    run = Run(folder)
    assert run.bodies() == [b"b", b"c"]
    assert run.bodies("urgent") == [b"high", b"low"]
    run.kill()


def test_a_message_that_its_queue_drops_at_once_does_not_come_back(folder: Path) -> None:
    run = Run(folder)
    run.declare(max_length=("l", 0))
    run.publish(b"a")
    run.kill()
    assert Run(folder).bodies() == []


def test_a_quorum_queue_keeps_its_delivery_counts_and_transient_messages(folder: Path) -> None:
    run = Run(folder)
    queue = run.declare(queue_type=("S", b"quorum"))
    run.publish(b"twice", properties=b"\0\0")
    run.publish(b"never", properties=b"\0\0")
    queue.requeue([run.take()])
    run.take()
    run.turn()
    run.kill()
    again = Run(folder)
    assert again.shown() == [(b"twice", True), (b"never", False)]
    number, message = again.take()
    assert b"x-delivery-count" in again.vhost.queues["q"].as_delivered(number, message)[1]
    assert number % 1024 == 2
    again.kill()


def test_a_log_cut_at_any_byte_of_its_last_blocks_is_the_log_before_them(folder: Path) -> None:
    filled(folder, 4, segment_size=100_000)
    (file,) = files(folder)
    data = file.read_bytes()
    ends = [end + 4 for _, end in scan(data, 1).blocks]
    for size in range(ends[0], len(data)):
        file.write_bytes(data[:size])
        run = Run(folder, segment_size=100_000)
        assert run.problems == []
        assert run.cut == size - max(end for end in ends if end <= size)
        whole = sum(end <= size for end in ends) - 2  # the first two open the log and declare the queue
        assert (list(run.vhost.queues) == ["q"]) is (whole >= 0)
        if whole >= 0:
            assert run.bodies() == [b"%d" % number for number in range(whole)]
        run.kill()


def test_a_flipped_bit_is_reported_and_costs_no_more_than_its_block(folder: Path) -> None:
    filled(folder, 6, segment_size=100_000)
    (file,) = files(folder)
    data = file.read_bytes()
    start = scan(data, 1).blocks[1][1] + 4  # after the queue's declaration
    whole = {b"%d" % number for number in range(6)}
    for at in range(start, len(data), 11):
        for old in folder.rglob("*.log"):
            old.unlink()
        changed = bytearray(data)
        changed[at] ^= 4
        file.write_bytes(changed)
        run = Run(folder, segment_size=100_000)
        assert len(run.problems) == 1
        assert f"{file.name}" in run.problems[0]
        left = set(run.bodies())
        assert left < whole
        assert len(left) >= 5
        run.publish(b"more")
        run.turn()
        run.kill()
        assert (folder / "damaged" / file.name).read_bytes() == bytes(changed)
        again = Run(folder, segment_size=100_000)
        assert again.problems == []
        assert set(again.bodies()) == {*left, b"more"}
        again.kill()


@pytest.mark.parametrize("which", [0, 2, -1])
def test_a_missing_segment_is_reported_once_and_the_rest_recovered(folder: Path, which: int) -> None:
    filled(folder, 40, segment_size=300)
    found = files(folder)
    assert len(found) > 4
    found[which].unlink()
    run = Run(folder, segment_size=300)
    assert any("missing" in text for text in run.problems)
    bodies = run.bodies() if "q" in run.vhost.queues else []
    run.kill()
    again = Run(folder, segment_size=300)
    assert again.problems == []
    assert (again.bodies() if "q" in again.vhost.queues else []) == bodies
    again.kill()


def test_a_cut_segment_in_the_middle_and_a_damaged_header_are_reported(folder: Path) -> None:
    filled(folder, 40, segment_size=300)
    second, third = files(folder)[1:3]
    second.write_bytes(second.read_bytes()[:-10])
    third.write_bytes(b"\0" * 10 + third.read_bytes()[10:])
    run = Run(folder, segment_size=300)
    assert len(run.problems) == 2
    assert 20 < len(run.bodies()) < 40
    run.kill()
    assert {path.name for path in (folder / "damaged").iterdir()} == {second.name, third.name}


def test_an_empty_newest_file_of_an_interrupted_start_is_no_damage(folder: Path) -> None:
    filled(folder, 3)
    (folder / f"{len(files(folder)) + 1:012d}.log").write_bytes(b"msctl")
    run = Run(folder)
    assert (run.problems, run.bodies()) == ([], [b"0", b"1", b"2"])
    run.kill()


def test_another_version_is_refused_and_left_alone(folder: Path) -> None:
    filled(folder, 1)
    (file,) = files(folder)
    data = file.read_bytes()
    changed = data[:8] + b"\x02" + data[9:]
    file.write_bytes(changed)
    with pytest.raises(BrokerError, match="version 2") as caught:
        Run(folder)
    assert "broker reset" in (caught.value.hint or "")
    assert file.read_bytes() == changed


def test_two_brokers_on_one_log_are_refused_naming_the_other(folder: Path) -> None:
    run = Run(folder)
    with pytest.raises(BrokerError, match="a test"):
        Run(folder)
    run.kill()
    Run(folder).kill()


def test_a_folder_that_others_can_write_to_is_refused(folder: Path) -> None:
    filled(folder, 1)
    folder.chmod(0o777)
    with pytest.raises(UntrustedPathError):
        Run(folder)
    folder.chmod(0o700)
    (folder / "000000000002.log").symlink_to(files(folder)[0])
    with pytest.raises(UntrustedPathError):
        Run(folder)


def test_segments_whose_messages_are_gone_are_deleted(folder: Path) -> None:
    run = Run(folder)
    run.declare()
    for number in range(200):
        run.publish(b"%d" % number)
        assert run.ack() == b"%d" % number
    run.kill()
    assert len(files(folder)) < 8
    assert Run(folder).bodies() == []


def test_live_messages_of_sparse_segments_are_moved(folder: Path) -> None:
    run = Run(folder)
    run.declare("parked")
    run.declare()
    for number in range(400):
        run.publish(b"%d" % number)
        run.ack()
        if number % 50 == 0:
            run.publish(b"parked %d" % number, "parked", "q")
            run.ack()
    expected = [b"parked %d" % number for number in range(0, 400, 50)]
    log = run.storage.journal
    assert log.size <= 2 * (log.live_bytes + 600) + 600
    run.kill()
    assert files(folder)[0].name != "000000000001.log"
    run = Run(folder)
    assert (run.problems, run.bodies("parked")) == ([], expected)
    for body in expected[:4]:
        assert run.ack("parked") == body
    for number in range(200):
        run.publish(b"%d" % number)
        run.ack()
    run.kill()
    again = Run(folder)
    assert again.bodies("parked") == expected[4:]
    assert again.storage.journal.messages == 4
    again.kill()


def test_a_delayed_message_is_routed_once_when_it_is_due_whatever_happens_meanwhile(folder: Path) -> None:
    clock = FakeClock()
    run = Run(folder, clock)
    run.declare()
    run.vhost.routing.declare(
        "later",
        "x-delayed-message",
        passive=False,
        durable=True,
        auto_delete=False,
        internal=False,
        arguments={b"x-delayed-type": ("S", b"direct")},
    )
    run.vhost.routing.bind("later", "q", "queue", "k", {}, None)
    client = Client(run.broker)
    client.open()
    for body, mode in ((b"kept", 2), (b"lost", 1)):
        client.publish(body, "k", exchange="later", headers={"x-delay": 5000}, delivery_mode=mode)
    run.turn()
    run.kill()
    clock.set(3)
    run = Run(folder, clock)
    assert (run.problems, run.bodies()) == ([], [])
    clock.set(6)
    run.broker.tick()
    assert run.bodies() == [b"kept"]
    run.turn()
    run.kill()
    run = Run(folder, clock)
    clock.set(20)
    run.broker.tick()
    assert run.bodies() == [b"kept"]
    run.kill()


def test_documents_of_other_parts_are_kept(folder: Path) -> None:
    run = Run(folder)
    run.storage.set_meta("user", "guest", b"{}")
    run.storage.set_meta("user", "gone", b"1")
    run.storage.set_meta("user", "gone", None)
    run.storage.set_meta("user", "guest", b'{"tags": []}')
    run.turn()
    run.kill()
    again = Run(folder)
    assert again.storage.meta("user") == {"guest": b'{"tags": []}'}
    assert again.storage.meta("policy") == {}
    again.kill()


def test_properties_survive_byte_for_byte(folder: Path) -> None:
    run = Run(folder)
    run.declare()
    run.publish(bytes(range(256)) * 10)
    before = [message[:3] for message, _ in run.vhost.queues["q"].ready.waiting()]
    run.kill()
    run = Run(folder)
    assert [message[:3] for message, _ in run.vhost.queues["q"].ready.waiting()] == before
    assert before[0][1] == PERSISTENT
    assert files(folder)[0].stat().st_size > SEGMENT_HEADER.size
    run.kill()
