"""Whatever a broker does, and however it ends: the next run has what a broker without a log would have."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from msctl.broker.core.messages import Message
from tests.unit.broker.storage.run import PERSISTENT, Run

QUEUES = ("a", "b", "c")
queues = st.sampled_from(QUEUES)
steps = st.lists(
    st.tuples(st.just("publish"), st.sets(queues, min_size=1), st.booleans())
    | st.tuples(st.sampled_from(["ack", "hold", "reject"]), queues)
    | st.tuples(st.sampled_from(["settle", "requeue", "purge", "delete"]), queues)
    | st.tuples(st.just("churn"), queues)
    | st.tuples(st.sampled_from(["kill", "stop"])),
    max_size=40,
)


class Model:
    """Queues as lists of (body, whether it is persistent); `held` are the unacknowledged ones."""

    def __init__(self) -> None:
        self.ready: dict[str, list[tuple[int, bytes, bool]]] = {}
        self.held: dict[str, list[tuple[int, bytes, bool]]] = {}

    def restart(self) -> None:
        for name, ready in self.ready.items():
            both = sorted(ready + self.held[name])
            self.ready[name] = [one for one in both if one[2]]
            self.held[name] = []


class Machine:
    """Does each step to a broker with a log and to the model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = Run(folder, segment_size=400)
        self.model = Model()
        self.held: dict[str, list[tuple[int, Message]]] = {name: [] for name in QUEUES}
        self.number = 0

    def publish(self, names: set[str], persistent: bool) -> None:
        for name in names:
            if name not in self.model.ready:
                self.run.declare(name)
                self.model.ready[name], self.model.held[name] = [], []
        self.number += 1
        body = b"%d" % self.number
        self.run.publish(body, *sorted(names), properties=PERSISTENT if persistent else b"\0\0")
        for name in names:
            self.model.ready[name].append((self.number, body, persistent))

    def take(self, name: str) -> Message | None:
        if not self.model.ready.get(name):
            return None
        number, message = self.run.take(name)
        assert message[2] == self.model.ready[name][0][1]
        self.held[name].append((number, message))
        self.model.held[name].append(self.model.ready[name].pop(0))
        return message

    def settle(self, name: str, how: str) -> None:
        """Acknowledge, reject or requeue all that is held."""
        if name not in self.model.ready:
            return
        queue = self.run.vhost.queues[name]
        held, self.held[name] = self.held[name], []
        if how == "requeue":
            queue.requeue(held)
            self.model.ready[name] = sorted(self.model.held[name] + self.model.ready[name])
        for _, message in held if how != "requeue" else ():
            (queue.reject if how == "reject" else queue.ack)(message)
        self.model.held[name] = []

    def step(self, what: str, *arguments: object) -> None:
        match what, arguments:
            case "publish", (set(names), bool(persistent)):
                self.publish(names, persistent)
            case "hold", (str(name),):
                self.take(name)
            case (("ack" | "reject"), (str(name),)):
                if self.take(name) is not None:
                    self.settle(name, what)
            case (("settle" | "requeue"), (str(name),)):
                self.settle(name, what)
            case "churn", (str(name),):
                for _ in range(12):
                    self.publish({name}, True)
                    self.take(name)
                    self.settle(name, "ack")
            case "purge", (str(name),) if name in self.model.ready:
                self.run.vhost.queues[name].purge()
                self.model.ready[name] = []
            case "delete", (str(name),) if name in self.model.ready:
                self.run.vhost.delete_queue(self.run.vhost.queues[name])
                del self.model.ready[name], self.model.held[name]
                self.held[name] = []
            case (("kill" | "stop"), _):
                self.restart(what)
        self.run.turn()

    def restart(self, how: str) -> None:
        self.run.turn()
        if how == "stop":
            for name, held in self.held.items():
                if held:
                    self.run.vhost.queues[name].requeue(held)
            self.run.stop()
        else:
            self.run.kill()
        self.held = {name: [] for name in QUEUES}
        self.model.restart()
        self.run = Run(self.folder, segment_size=400)
        self.check()

    def check(self) -> None:
        assert (self.run.problems, self.run.cut) == ([], 0)
        assert {name: self.run.bodies(name) for name in self.run.vhost.queues} == {
            name: [body for _, body, _ in ready] for name, ready in self.model.ready.items()
        }
        assert self.run.storage.journal.messages == sum(map(len, self.model.ready.values()))


@settings(deadline=None, max_examples=40)  # a restart synchronizes the disk
@given(steps)
def test_a_restart_brings_back_what_is_durable_in_order(steps: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder) / "project" / "broker")
        for what, *arguments in steps:
            machine.step(str(what), *arguments)
        machine.restart("kill")
        machine.restart("stop")
        machine.run.kill()
