"""A connection that publishes without pause is read in rests where that raises the rate, and only there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from pamqp import commands, frame

from msctl.broker.server import BrokerServer
from msctl.broker.session.flood import (
    FEW,
    FLOOD_RATE,
    GAIN,
    MOST_BYTES,
    RESTS,
    RESTS_PER_WINDOW,
    RETRY_SECONDS,
    WINDOW_SECONDS,
    FloodMeter,
)
from tests.support.clock import FakeClock
from tests.support.waiting import until
from tests.unit.broker.client import Client, make_broker
from tests.unit.broker.raw import Raw

FLOOD = 2 * FLOOD_RATE
SHORT, LONG = RESTS


class Flow:
    """A client whose rate depends on the rests after reads: without any, with short ones, with long ones."""

    def __init__(
        self, without: float, short: float, long: float, *, per_read: int = FEW - 1, size: int = 80
    ) -> None:
        self.meter = FloodMeter(0.0)
        self.now = 0.0
        self.per_read = per_read
        self.size = size
        self.received = 0
        self.rates = {0.0: without, SHORT: short, LONG: long}

    def run(self, seconds: float) -> dict[float, float]:
        """Return the seconds with each kind of rests."""
        spent = dict.fromkeys(self.rates, 0.0)
        end = self.now + seconds
        while self.now < end:
            rest = self.meter.rest
            step = self.per_read / self.rates[rest]
            spent[rest] += step
            self.now += step
            self.received += self.per_read * self.size
            self.meter.add(self.now, self.per_read, self.received)
        return spent


def test_slow_publisher_is_read_at_once() -> None:
    assert Flow(FLOOD_RATE / 2, FLOOD, FLOOD).run(5.0)[0.0] > 4.9


def test_flood_that_short_rests_make_faster_is_read_in_those() -> None:
    flow = Flow(FLOOD, 2 * FLOOD, 4 * FLOOD)
    assert flow.run(1.0)[SHORT] > 0.9
    assert flow.meter.rest == SHORT


@pytest.mark.parametrize("short", [FLOOD * 0.6, FLOOD, FLOOD * (GAIN - 0.01)])
def test_flood_that_only_long_rests_make_faster_is_read_in_those(short: float) -> None:
    flow = Flow(FLOOD, short, 2 * FLOOD)
    assert flow.run(2.0)[LONG] > 1.9
    assert flow.meter.rest == LONG


@pytest.mark.parametrize("resting", [FLOOD * (GAIN - 0.01), FLOOD / 2, FLOOD / 50])
def test_flood_that_no_rests_make_faster_is_read_in_rests_for_a_trial_only(resting: float) -> None:
    flow = Flow(FLOOD, resting, resting)
    flow.run(1.0)
    assert flow.meter.rest == 0.0
    spent = flow.run(RETRY_SECONDS * 2)
    assert 0 < spent[SHORT] + spent[LONG] < RETRY_SECONDS * 2 / 100


def test_each_kind_of_rests_is_tried_for_two_windows_of_several() -> None:
    spent = Flow(FLOOD, FLOOD, FLOOD).run(1.0)
    for rest in RESTS:
        assert 2 * RESTS_PER_WINDOW * rest <= spent[rest] < 3 * RESTS_PER_WINDOW * rest


def test_flood_is_read_at_once_again_when_rests_gain_nothing_any_more() -> None:
    flow = Flow(FLOOD, 2 * FLOOD, FLOOD)
    flow.run(1.0)
    flow.rates[SHORT] = FLOOD
    assert flow.run(1.0)[SHORT] <= 3 * WINDOW_SECONDS
    assert flow.meter.rest == 0.0


def test_client_that_has_slowed_down_is_read_at_once_and_the_next_flood_in_rests() -> None:
    flow = Flow(FLOOD, 2 * FLOOD, 2 * FLOOD)
    flow.run(1.0)
    flow.rates = dict.fromkeys(flow.rates, FLOOD_RATE / 10)
    assert flow.run(1.0)[0.0] >= 1.0 - 3 * WINDOW_SECONDS
    flow.rates = {0.0: FLOOD, SHORT: 2 * FLOOD, LONG: 2 * FLOOD}
    assert flow.run(1.0)[SHORT] > 0.9


def test_flood_whose_reads_bring_many_messages_is_read_at_once() -> None:
    assert Flow(FLOOD, 2 * FLOOD, 2 * FLOOD, per_read=FEW).run(1.0)[0.0] > 0.9


@pytest.mark.parametrize(
    ("size", "tried"),
    [
        (round(MOST_BYTES / FLOOD / LONG) - 10, RESTS),
        (round(MOST_BYTES / FLOOD / LONG) + 10, RESTS[:1]),
        (round(MOST_BYTES / FLOOD / SHORT) + 10, ()),
    ],
)
def test_rests_in_which_too_much_would_come_are_not_tried(size: int, tried: tuple[float, ...]) -> None:
    spent = Flow(FLOOD, FLOOD, FLOOD, size=size).run(1.0)
    assert tuple(rest for rest in RESTS if spent[rest]) == tried


def test_bursts_are_no_flood() -> None:
    meter = FloodMeter(0.0)
    for number in range(50):
        for _ in range(1000):
            meter.add(number * 0.1, 1, 0)
        assert meter.rest == 0.0


def test_one_slow_window_before_a_trial_does_not_count_as_the_rate_without_rests() -> None:
    flow = Flow(FLOOD, FLOOD, FLOOD)
    flow.run(WINDOW_SECONDS)
    flow.rates[0.0] = FLOOD_RATE
    flow.run(WINDOW_SECONDS)
    assert flow.meter.rest == SHORT
    flow.run(1.0)
    assert flow.meter.rest == 0.0


# --- sessions and sockets ---

READS = round(FLOOD * WINDOW_SECONDS) // (FEW - 1)
"""Reads of a few messages that make a window of a flood."""
MESSAGE = Client(make_broker(), handshake=False).publish_bytes(b"a message")


def ask_for_nothing(_client: Client) -> None:
    pass


def ask_for_confirms(client: Client) -> None:
    client.call(commands.Confirm.Select(), commands.Confirm.SelectOk)


def ask_for_transactions(client: Client) -> None:
    client.call(commands.Tx.Select(), commands.Tx.SelectOk)


def ask_for_deliveries(client: Client) -> None:
    client.queue("mine")
    client.consume("mine")


@pytest.mark.parametrize(
    ("ask", "rests"),
    [
        (ask_for_nothing, True),
        (ask_for_confirms, False),
        (ask_for_transactions, False),
        (ask_for_deliveries, False),
    ],
)
def test_only_a_client_that_waits_for_nothing_is_read_in_rests(
    ask: Callable[[Client], None], rests: bool
) -> None:
    clock = FakeClock()
    client = Client(make_broker(clock))
    client.open()
    client.queue()
    ask(client)
    for _ in range(3):
        clock.set(clock.monotonic() + WINDOW_SECONDS)
        for _ in range(READS):
            client.feed(MESSAGE * (FEW - 1))
        if ask is ask_for_transactions:
            client.call(commands.Tx.Commit(), commands.Tx.CommitOk)
    assert bool(client.session.rest) is rests


def test_client_that_asks_a_question_is_read_at_once() -> None:
    clock = FakeClock()
    client = Client(make_broker(clock))
    client.open()
    client.queue()
    for _ in range(3):
        clock.set(clock.monotonic() + WINDOW_SECONDS)
        for _ in range(READS):
            client.feed(MESSAGE * (FEW - 1))
    client.session.receive(frame.marshal(commands.Queue.Declare(queue="q", passive=True), 1))
    client.session.process(1)
    assert client.session.rest == 0.0
    client.read()
    client.feed(MESSAGE)
    assert client.session.rest == SHORT


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def server(clock: FakeClock) -> AsyncIterator[BrokerServer]:
    server = BrokerServer(clock=clock, log=lambda _level, _text: None, memory_limit=4_000_000)
    await server.start("127.0.0.1", 0)
    yield server
    await server.stop(timeout=1.0)


class Flooder:
    """A client that is read in rests; the clock stands still, so that it stays so."""

    def __init__(self, server: BrokerServer, raw: Raw) -> None:
        self.server = server
        self.raw = raw
        self.sent = 0

    @classmethod
    async def connect(cls, server: BrokerServer, clock: FakeClock) -> Flooder:
        assert server.address is not None
        raw = await Raw.connect(f"amqp://127.0.0.1:{server.address[1]}/")
        raw.write(commands.Queue.Declare(queue="q"))
        assert isinstance(await raw.read(), commands.Queue.DeclareOk)
        flooder = cls(server, raw)
        (session,) = server.sessions
        while not session.rest:
            clock.set(clock.monotonic() + WINDOW_SECONDS)
            for _ in range(READS):
                flooder.publish(FEW - 1)
                await flooder.arrived()
        return flooder

    def publish(self, count: int) -> None:
        self.raw.writer.write(MESSAGE * count)
        self.sent += count

    async def arrived(self) -> None:
        await until(lambda: self.server.stats().published == self.sent)


async def test_all_that_is_sent_during_rests_is_published_and_answered(
    server: BrokerServer, clock: FakeClock
) -> None:
    flooder = await Flooder.connect(server, clock)
    for count in (1, 10, 1_000, 1):
        flooder.publish(count)
        await flooder.arrived()
        flooder.raw.write(commands.Queue.Declare(queue="q", passive=True))
        answer = await flooder.raw.read()
        assert isinstance(answer, commands.Queue.DeclareOk)
        assert answer.message_count == flooder.sent
    await flooder.raw.close()


async def test_flood_stops_at_the_memory_limit_and_goes_on_below_it(
    server: BrokerServer, clock: FakeClock
) -> None:
    flooder = await Flooder.connect(server, clock)
    flooder.publish(50_000)
    await until(lambda: server.stats().blocked)
    assert server.stats().published < flooder.sent
    server.purge("q")
    await until(lambda: not server.stats().blocked)
    await until(lambda: server.stats().blocked or server.stats().published == flooder.sent)
    server.purge("q")
    await flooder.arrived()
    await flooder.raw.close()


def close(raw: Raw) -> None:
    raw.writer.close()


@pytest.mark.parametrize("end", [close, Raw.reset])
async def test_end_of_a_client_is_noticed_during_rests(
    server: BrokerServer, clock: FakeClock, end: Callable[[Raw], None]
) -> None:
    flooder = await Flooder.connect(server, clock)
    flooder.publish(100)
    end(flooder.raw)
    await until(lambda: server.stats().connections == 0)
