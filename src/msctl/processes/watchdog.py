"""The watchdog: a small program that kills the children of a stack whose process died.

It reads its standard input: "+PID" when a child starts, "-PID" when one is gone, "." when the stack ends in
order. End of input means that the stack's process ended, in any way; then it kills the sessions of the
remaining children and every process with the stack's mark in its environment. It runs by path without site
packages, to start fast and stay small.

A stack that is killed while it starts a child leaves a process that gets the mark only when it executes the
program. So the search ends after several rounds without a find, not after the first.

Arguments: the variable of the mark, and the prefix of its value.
"""

import os
import signal
import sys
import time

QUIET_ROUNDS = 10


def main() -> None:
    # Ctrl-C and a closed terminal are handled by the stack.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    mark = f"{sys.argv[1]}={sys.argv[2]}".encode()
    children: set[int] = set()
    orderly = False
    for line in sys.stdin:
        if line[0] == ".":
            orderly = True
            continue
        pid = int(line[1:])
        if line[0] == "+":
            children.add(pid)
        else:
            children.discard(pid)
    # Repeat: a process that is being forked now appears in the next round.
    quiet = 0
    for _ in range(100):
        quiet = 0 if kill_all(children, mark) else quiet + 1
        if quiet == (1 if orderly else QUIET_ROUNDS):
            return
        time.sleep(0.02)


def kill_all(children: set[int], mark: bytes) -> bool:
    """Kill the remaining processes; returns whether there were any."""
    found = False
    for pid in processes():
        try:
            ours = os.getsid(pid) in children or has_mark(pid, mark)
            if ours and not is_zombie(pid):
                os.kill(pid, signal.SIGKILL)
                found = True
        except OSError:
            continue
    if not processes():  # without /proc, only the groups can be killed
        for child in children:
            try:
                os.killpg(child, signal.SIGKILL)
            except OSError:
                continue
    return found


def processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - pathlib costs start-up
    except OSError:
        return []


def has_mark(pid: int, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - pathlib costs start-up
            environment = file.read()
    except OSError:
        return False
    return environment.startswith(mark) or b"\0" + mark in environment


def is_zombie(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", errors="replace") as file:  # noqa: PTH123 - pathlib costs start-up
        return file.read().rpartition(")")[2].split()[0] == "Z"


if __name__ == "__main__":
    main()
