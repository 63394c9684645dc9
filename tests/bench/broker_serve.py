"""Run the embedded broker by itself, for client suites and benchmarks.

`broker_serve.py [PORT [FOLDER process|disk]]`: with a folder, what is durable is in a log there.

Prints the address bound, then, on SIGUSR1, its figures; ends on SIGINT or SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import uvloop

from msctl.broker.server import BrokerServer
from msctl.broker.storage.storage import StorageSpec
from msctl.clock import SystemClock
from msctl.model.snapshots import Durability


async def main(port: int, storage: StorageSpec | None) -> None:
    server = BrokerServer(
        clock=SystemClock(),
        log=lambda level, text: print(f"{level}: {text}", file=sys.stderr, flush=True),
        storage=storage,
    )
    host, bound = await server.start("127.0.0.1", port)
    print(f"{host}:{bound}", flush=True)
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end.set)
    loop.add_signal_handler(signal.SIGUSR1, lambda: print(server.stats(), flush=True))
    await end.wait()
    await server.stop()


if __name__ == "__main__":
    log = StorageSpec(Path(sys.argv[2]), Durability(sys.argv[3])) if len(sys.argv) > 3 else None
    uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0, log))
