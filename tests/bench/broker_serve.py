"""Run the embedded broker by itself, for client suites and benchmarks: `broker_serve.py [PORT]`.

Prints the address bound, then, on SIGUSR1, its figures; ends on SIGINT or SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import uvloop

from msctl.broker.server import BrokerServer
from msctl.clock import SystemClock


async def main(port: int) -> None:
    server = BrokerServer(
        clock=SystemClock(), log=lambda level, text: print(f"{level}: {text}", file=sys.stderr, flush=True)
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
    uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
