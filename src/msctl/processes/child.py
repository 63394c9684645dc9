"""A child process: started in a session of its own, read, waited for, and ended with all it forked.

Knows nothing of services; every claim about its end comes from the kernel. A child is reaped last
of all, so that its process id, and with it its group and session, cannot become somebody else's
while signals are sent to them.
"""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msctl.aio import within
from msctl.clock import AsyncClock
from msctl.processes import process_table
from msctl.processes.output import Output
from msctl.processes.process_table import Censuses

_LOOK_AGAIN_S = 0.05
_KILL_S = 5.0


class SpawnError(Exception):
    """A program cannot be started, and why; as a person reads it."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended: its return code as subprocess has it (negative for a signal), and whether it
    or something that it forked had to be killed."""

    code: int
    killed: bool = False


class Child:
    """One process and whatever it forks."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None,
        mark: str,
        line: Callable[[str], None],
        clock: AsyncClock,
        censuses: Censuses,
    ) -> None:
        """Start it; `line` is given each line that it prints. Raises SpawnError."""
        program = find_program(argv[0], env.get("PATH"), cwd)
        reader, writer = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - running the user's commands is what it is for
                [*_die_with_parent(), program, *argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=writer,
                # One pipe for both, so that what it prints keeps its order.
                stderr=writer,
                env={**env, process_table.MARK: mark},
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            os.close(reader)
            raise SpawnError(f"cannot run {argv[0]}: {error.strerror or error}") from error
        finally:
            os.close(writer)
        self.pid = self._process.pid
        self._mark = mark
        self._clock = clock
        self._censuses = censuses
        self._output = Output(reader, line)
        self._hurry = asyncio.Event()
        self._over = False
        self._exited = _watch(self._process)

    async def exited(self) -> int:
        """Its return code, once it has exited; what it forked may still run."""
        return await asyncio.shield(self._exited)

    async def left_behind(self) -> int:
        """How many processes of its family are there besides itself; with none, it is let go of."""
        family = (await self._censuses.fresh()).family(self.pid, self._mark)
        if not family and self._exited.done():
            self._let_go()
        return len(family)

    async def end(self, timeout: float) -> Ending:
        """End it and all that it forked: SIGTERM, then after `timeout` seconds SIGKILL.

        Also to be called after it has exited by itself. May be cancelled and called again.
        """
        if not self._exited.done():
            process_table.signal_group(self.pid, signal.SIGTERM)
            process_table.signal_group(self.pid, signal.SIGCONT)  # one that is stopped could not react
        killed = not await within(timeout, self._gone(), self._clock, self._hurry)
        if killed:
            self._kill_group()
            await within(_KILL_S, self._killed(), self._clock, asyncio.Event())
        # One that does not end when it is killed hangs in the kernel; nobody can wait for that.
        code = self._exited.result() if self._exited.done() else -signal.SIGKILL
        self._let_go()
        return Ending(code, killed)

    def kill(self) -> None:
        """SIGKILL to its group now; an `end` under way sees to the rest at once."""
        self._kill_group()
        self._hurry.set()

    async def _gone(self) -> None:
        await self.exited()
        told: set[int] = set()
        while family := (await self._censuses.fresh()).family(self.pid, self._mark):
            process_table.signal_all(family - told, signal.SIGTERM)
            told |= family
            await self._clock.sleep(_LOOK_AGAIN_S)

    async def _killed(self) -> None:
        while family := (await self._censuses.fresh()).family(self.pid, self._mark):
            process_table.signal_all(family, signal.SIGKILL)
            await self._clock.sleep(_LOOK_AGAIN_S)
        await self.exited()

    def _kill_group(self) -> None:
        if not self._over:
            process_table.signal_group(self.pid, signal.SIGKILL)

    def _let_go(self) -> None:
        if self._over:
            return
        self._over = True
        self._output.close()
        if self._exited.done():
            self._process.wait()


def describe_exit(code: int) -> str:
    """ "exit 1", "killed by SIGSEGV", "exit 137 (as a shell reports SIGKILL)"."""
    if code < 0:
        return f"killed by {_signal_name(-code)}"
    if code > 128 and (name := _signal_name(code - 128)).startswith("SIG"):
        return f"exit {code} (as a shell reports {name})"
    return f"exit {code}"


def find_program(name: str, path: str | None, cwd: Path | None) -> str:
    """The file that a command's first word means, as execvp would find it; raises SpawnError.

    A name with a slash is relative to the folder that the command runs in.
    """
    folder = cwd or Path.cwd()
    if not folder.is_dir():
        raise SpawnError(f"the folder to run it in does not exist: {folder}")
    if "/" not in name:
        found = shutil.which(name, path=path)
        if found is None:
            raise SpawnError(f"command not found: {name}")
        return found
    file = folder / name
    if not file.exists():
        raise SpawnError(f"command not found: {name} (looked in {folder})")
    if file.is_dir():
        raise SpawnError(f"not a program but a folder: {name}")
    if not os.access(file, os.X_OK):
        raise SpawnError(f"not executable: {name} (chmod +x {name})")
    return str(file)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@functools.cache
def _die_with_parent() -> tuple[str, ...]:
    """A prefix that has the kernel kill the program when this process dies, where there is one.

    setpriv asks for PDEATHSIG and becomes the program, in about a millisecond. A preexec_fn would
    do it too, but it runs Python in a fork of a process that has threads. The watchdog (watchdog.py)
    ends children where this is not to be had, and everything that they fork.
    """
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    if setpriv is None:
        return ()
    prefix = (setpriv, "--pdeathsig", "KILL", "--")
    trial = subprocess.run([*prefix, setpriv, "--version"], capture_output=True, check=False)  # noqa: S603
    return prefix if trial.returncode == 0 else ()


def _watch(process: subprocess.Popen[bytes]) -> asyncio.Future[int]:
    """A future of its return code that leaves it unreaped."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int] = loop.create_future()

    def tell(code: int) -> None:
        if not future.done():
            future.set_result(code)

    try:
        handle = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # not Linux, or an old one
        _watch_in_thread(process, lambda code: loop.call_soon_threadsafe(tell, code))
        return future

    def exited() -> None:
        loop.remove_reader(handle)
        os.close(handle)
        tell(_peek(process))

    loop.add_reader(handle, exited)
    return future


def _watch_in_thread(process: subprocess.Popen[bytes], tell: Callable[[int], object]) -> None:
    threading.Thread(target=lambda: tell(_peek(process)), name=f"wait for {process.pid}", daemon=True).start()


def _peek(process: subprocess.Popen[bytes]) -> int:
    """Wait for a child, and leave it to be reaped where the system has a call for that."""
    if not hasattr(os, "waitid"):
        return process.wait()
    status = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    if status is None:
        return process.wait()
    return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status
