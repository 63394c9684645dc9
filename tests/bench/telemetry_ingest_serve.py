"""What takes telemetry in, as in a stack, and how late its loop is meanwhile.

`telemetry_ingest_serve.py FOLDER` prints the port that takes OTLP. For each `SECONDS LINES` on its standard
input it has a child print so many JSON lines a second for so long, and prints what was measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import uvloop

from msctl.clock import SystemClock
from msctl.config.reading.load import load
from msctl.model.snapshots import Snapshot
from msctl.processes.output import Output, Pace
from msctl.processes.record_sink import RecordSink
from msctl.telemetry.logs.hub import LogHub
from msctl.telemetry.logs.run_files import RunFiles
from msctl.telemetry.observation import Observation
from msctl.telemetry.runs.recorder import RunRecorder

BEAT_S = 0.005
PRINTER = """
import json, sys, time
rate = int(sys.argv[1])
began, sent = time.monotonic(), 0
while True:
    due = int((time.monotonic() - began) * rate)
    lines = [
        json.dumps({"level": "info", "message": f"{n} done", "trace_id": f"{n + 1:032x}", "user": n % 97})
        for n in range(sent, due)
    ]
    sent = due
    sys.stdout.write("".join(line + "\\n" for line in lines))
    sys.stdout.flush()
    time.sleep(0.005)
"""


class Lag:
    """How late a timer of the loop is: by the clock, and by the processor time that the loop's thread used.

    The second one does not grow with what else the machine does.
    """

    def __init__(self) -> None:
        self.late: list[float] = []
        self.busy: list[float] = []

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, used = loop.time() + BEAT_S, time.thread_time()
            await asyncio.sleep(BEAT_S)
            self.late.append(max(0.0, loop.time() - due))
            self.busy.append(time.thread_time() - used)


async def main(folder: Path) -> None:
    project = load(cwd=Path("/"), env={}).project
    clock = SystemClock(asyncio.sleep)
    logs = LogHub(clock)
    logs.bind(asyncio.get_running_loop())

    async def snapshot() -> Snapshot:
        raise AssertionError("nobody scrapes")

    observation = Observation(project, logs, {}, snapshot=snapshot, targets=tuple)
    observation.start()
    files = RunFiles(lambda: folder, clock, print)
    recorder = RunRecorder(lambda: folder / "runs.sqlite", "run", "0", clock, print)
    recording = asyncio.create_task(observation.keep_recording(recorder, clock))
    await observation.receiver.open(0)
    public = observation.receiver._public
    assert public is not None
    print(public.addresses[0][1], flush=True)
    while order := await asyncio.to_thread(sys.stdin.readline):
        seconds, lines = map(float, order.split())
        print(json.dumps(await measure(seconds, int(lines), logs, files)), flush=True)
    recording.cancel()
    recorder.close()
    files.close()
    await observation.stop()


async def measure(seconds: float, lines: int, logs: LogHub, files: RunFiles) -> dict[str, float]:
    lag = Lag()
    before, took = logs._seq, time.process_time()
    beat = asyncio.create_task(lag.run())
    if lines:
        await printed(seconds, lines, logs, files)
    else:
        await asyncio.sleep(seconds)
    beat.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await beat
    return {
        "late_p99": quantile(lag.late),
        "busy_p99": quantile(lag.busy),
        "lines_per_s": (logs._seq - before) / seconds,
        "cpu": (time.process_time() - took) / seconds,
    }


async def printed(seconds: float, lines: int, logs: LogHub, files: RunFiles) -> None:
    sink = RecordSink(
        lambda data: files.write("printer", "printer-1", "stdout", data),
        lambda record: logs.printed("printer", record, instance="printer-1", stream="stdout"),
        lambda _text: None,
    )
    reading, writing = os.pipe()
    child = subprocess.Popen([sys.executable, "-c", PRINTER, str(lines)], stdout=writing)
    os.close(writing)
    output = Output(reading, sink, Pace())
    await asyncio.sleep(seconds)
    child.kill()
    child.wait()
    output.close()
    await output.delivered()


def quantile(found: list[float]) -> float:
    return sorted(found)[int(len(found) * 0.99)]


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1])))
