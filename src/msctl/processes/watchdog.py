"""A small program that outlives a stack which was killed, for as long as it takes to end its children.

Run by path and without site packages, so that it costs next to nothing. It is told of children over
its standard input: "+PID" when one starts, "-PID" when one has gone. The end of input means that the
stack has gone, in whatever way; then it kills the sessions that are left, and every process whose
environment carries the stack's mark. Arguments: the mark's variable, and how its value begins.
"""

import os
import signal
import sys
import time


def main() -> None:
    # Ctrl-C and a closed terminal are the stack's affair.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    mark = f"{sys.argv[1]}={sys.argv[2]}".encode()
    children: set[int] = set()
    for line in sys.stdin:
        pid = int(line[1:])
        if line[0] == "+":
            children.add(pid)
        else:
            children.discard(pid)
    # More than once: what is being forked at this moment shows up in the next round.
    for _ in range(50):
        if not kill_all(children, mark):
            return
        time.sleep(0.02)


def kill_all(children: set[int], mark: bytes) -> bool:
    """Kill what is left; says whether there was anything."""
    found = False
    for pid in processes():
        try:
            ours = os.getsid(pid) in children or carries(pid, mark)
            if ours and not is_zombie(pid):
                os.kill(pid, signal.SIGKILL)
                found = True
        except OSError:
            continue
    if not processes():  # a system without /proc: the groups are what can be had
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


def carries(pid: int, mark: bytes) -> bool:
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
