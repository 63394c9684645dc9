"""The embedded broker with a log in a process of its own, to be killed.

`python -m tests.support.broker_process FOLDER DURABILITY SEGMENT_SIZE` prints what is wrong, then the port.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class BrokerProcess:
    """A running broker; `said` are the lines of warnings and errors that it printed at its start."""

    child: subprocess.Popen[str]
    port: int
    said: list[str]

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def kill(self) -> None:
        self.child.kill()
        self.child.wait()

    def stop(self) -> None:
        """End it as `down` does."""
        self.child.send_signal(signal.SIGTERM)
        assert self.child.wait(30) == 0


@contextmanager
def broker_process(
    folder: Path, durability: str = "process", segment_size: int = 1 << 24
) -> Iterator[BrokerProcess]:
    """A broker on the log in `folder`; killed at the end if it still runs."""
    command = [
        sys.executable,
        "-m",
        "tests.support.broker_process",
        str(folder),
        durability,
        str(segment_size),
    ]
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as child:
        assert child.stdout is not None
        said = []
        for line in child.stdout:
            if line.startswith("port "):
                break
            said.append(line.rstrip())
        else:
            raise AssertionError(f"the broker has not started: {said}")
        try:
            yield BrokerProcess(child, int(line.split()[1]), said)
        finally:
            child.kill()


async def _serve(folder: Path, durability: str, segment_size: int) -> None:
    from msctl.broker.server import BrokerServer
    from msctl.broker.storage.storage import StorageSpec
    from msctl.clock import SystemClock
    from msctl.model.snapshots import Durability

    def log(level: str, text: str) -> None:
        if level in ("warning", "error") and "AMQP client" not in text:
            print(level, text, flush=True)

    storage = StorageSpec(folder, Durability(durability), "a test", segment_size)
    server = BrokerServer(clock=SystemClock(), log=log, storage=storage)
    _, port = await server.start("127.0.0.1", 0)
    await asyncio.sleep(0)  # what the start had to say is printed first
    print("port", port, flush=True)
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    await end.wait()
    await server.stop()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
