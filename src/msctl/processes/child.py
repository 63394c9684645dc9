"""A child process: started in its own session, read, waited for, and stopped with all its descendants.

Invariant: a child is reaped only after its family (session and marked processes) is gone. Until then the
kernel keeps its process id, so that signals to the id, its group and its session never reach an unrelated
process. The exit is observed without reaping (pidfd, waitid with WNOWAIT). On a system without waitid, the
child is reaped when it exits.
"""

from __future__ import annotations

import asyncio
import errno
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
from msctl.processes import orphans, process_table
from msctl.processes.file_limit import restore_file_limit
from msctl.processes.output import Output, Pace, Sink
from msctl.processes.process_table import ProcessTableReader

_POLL_S = 0.05
_KILL_S = 5.0


_TRANSIENT = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ETXTBSY})
"""No descriptor, process or memory at the moment, or the program is being written."""

_ABSENT = frozenset({errno.ENOENT, errno.EACCES, errno.ENOEXEC})
"""The program is missing, not executable yet, or half written."""


class SpawnError(Exception):
    """A program cannot be started; the text says why.

    `transient` errors are worth another try; `absent` ones are too if the program was there before, since it
    may be being rebuilt.
    """

    def __init__(self, reason: str, *, transient: bool = False, absent: bool = False) -> None:
        super().__init__(reason)
        self.transient = transient
        self.absent = absent


@dataclass(frozen=True, slots=True)
class Exit:
    """How a child exited: its return code as in subprocess (negative for a signal), and whether it or a
    descendant had to be killed."""

    code: int
    killed: bool = False


class Child:
    """One process and its descendants."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None,
        mark: str,
        stdout: Sink,
        stderr: Sink,
        pace: Pace,
        clock: AsyncClock,
        process_tables: ProcessTableReader,
    ) -> None:
        """Start the program; `stdout` and `stderr` receive its output, at `pace`. Raises SpawnError."""
        program = find_program(argv[0], env.get("PATH"), cwd)
        readers, writers = _pipes(2)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - runs the user's command on purpose
                [*die_with_parent(), program, *argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=writers[0],
                stderr=writers[1],
                env={**env, process_table.MARK: mark},
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            for reader in readers:
                os.close(reader)
            raise spawn_error(argv[0], error) from error
        finally:
            for writer in writers:
                os.close(writer)
        self.pid = self._process.pid
        restore_file_limit(self.pid)
        self._mark = mark
        self._clock = clock
        self._process_tables = process_tables
        self.has_daemon = False
        """Whether `count_left` found a descendant that left the session."""
        self._others: set[int] = set()
        """Sessions of descendants, besides the child's own."""
        orphans.own(self.pid)
        self._kill_now = asyncio.Event()
        self._released = False
        self._outputs: list[Output] = []
        try:
            for sink in (stdout, stderr):
                self._outputs.append(Output(readers[0], sink, pace))
                del readers[0]
            self._exited = _watch(self._process)
        except (OSError, RuntimeError) as error:  # no room in epoll, no thread
            for reader in readers:
                os.close(reader)
            for output in self._outputs:
                output.close()
            self._kill_group()
            self._process.wait()
            orphans.disown(self.pid)
            raise SpawnError(f"cannot watch {argv[0]}: {error}", transient=True) from error

    async def exited(self) -> int:
        """Wait for the exit and return the return code; descendants may still run."""
        return await asyncio.shield(self._exited)

    async def output_logged(self) -> None:
        """Return when all output is logged. A descendant may hold a pipe open: limit the wait."""
        for output in self._outputs:
            await output.delivered()

    async def count_left(self) -> int:
        """Count the descendants that still run; without any, an exited child is released."""
        if self._exited.done() and not self._released:
            self._others |= orphans.daemons_of(self.pid, self._mark)
        family = await self._family()
        if not family and self._exited.done():
            self._release()
        self.has_daemon = any(process_table.session_of(pid) not in (self.pid, None) for pid in family)
        return len(family)

    async def stop(self, timeout: float, number: signal.Signals = signal.SIGTERM) -> Exit:
        """Stop the child and its descendants: the signal `number`, then SIGKILL after `timeout` seconds.

        Call it after the child exited by itself, too. May be cancelled and called again.
        """
        if not self._exited.done():
            self._others |= orphans.sessions_below(self.pid)
            process_table.signal_group(self.pid, number)
            process_table.signal_group(self.pid, signal.SIGCONT)  # a suspended process cannot handle signals
        killed = not await within(timeout, self._terminated(), self._clock, self._kill_now)
        if killed:
            self._kill_group()
            await within(_KILL_S, self._killed(), self._clock, asyncio.Event())
        # A process that survives SIGKILL is blocked in the kernel: do not wait for it.
        code = self._exited.result() if self._exited.done() else -signal.SIGKILL
        self._release()
        return Exit(code, killed)

    def kill(self) -> None:
        """Send SIGKILL to the group now; a running `stop` then kills the rest without delay."""
        self._kill_group()
        self._kill_now.set()

    async def _terminated(self) -> None:
        await self.exited()
        signalled: set[int] = set()
        while family := await self._family():
            process_table.signal_all(family - signalled, signal.SIGTERM)
            signalled |= family
            await self._clock.sleep(_POLL_S)

    async def _killed(self) -> None:
        while family := await self._family():
            process_table.signal_all(family, signal.SIGKILL)
            await self._clock.sleep(_POLL_S)
        await self.exited()

    async def _family(self) -> set[int]:
        """The descendants that run now."""
        found = (await self._process_tables.fresh()).family(self.pid, self._mark, self._others)
        self._others |= found  # one that makes a session of its own gives it its id
        return found

    def _kill_group(self) -> None:
        if not self._released:
            process_table.signal_group(self.pid, signal.SIGKILL)

    def _release(self) -> None:
        """Close the output and reap the child: from here on its id may be reused."""
        if self._released:
            return
        self._released = True
        for output in self._outputs:
            output.close()
        if self._exited.done():
            self._process.wait()
        orphans.disown(self.pid)
        for session in self._others:
            orphans.reap_one(session)


def _pipes(count: int) -> tuple[list[int], list[int]]:
    """The read and write ends of new pipes. Raises SpawnError if there are no descriptors left."""
    readers: list[int] = []
    writers: list[int] = []
    try:
        for _ in range(count):
            reader, writer = os.pipe()
            readers.append(reader)
            writers.append(writer)
    except OSError as error:
        for descriptor in (*readers, *writers):
            os.close(descriptor)
        raise spawn_error("it", error) from error
    return readers, writers


def spawn_error(program: str, error: OSError) -> SpawnError:
    """The SpawnError for a system error at the start of `program`."""
    reason = f"cannot run {program}: {error.strerror or error}"
    return SpawnError(reason, transient=error.errno in _TRANSIENT, absent=error.errno in _ABSENT)


def describe_exit(code: int) -> str:
    """ "exit 1", "killed by SIGSEGV", "exit 137 (as a shell reports SIGKILL)"."""
    if code < 0:
        return f"killed by {_signal_name(-code)}"
    if code > 128 and (name := _signal_name(code - 128)).startswith("SIG"):
        return f"exit {code} (as a shell reports {name})"
    return f"exit {code}"


def program_beside(name: str, folder: Path) -> str | None:
    """The path, from `folder`, of this program in the `.venv` there or one above; None if there is none."""
    paths = (f"{above}.venv/bin/{name}" for above in ("", "../"))
    return next((path for path in paths if os.access(folder / path, os.X_OK)), None)


def find_program(name: str, path: str | None, cwd: Path | None) -> str:
    """Find the program's file as execvp does. Raises SpawnError.

    A name with a slash is relative to `cwd`, the folder that the command runs in.
    """
    folder = cwd or Path.cwd()
    if not folder.is_dir():
        raise SpawnError(f"the working directory does not exist: {folder}", absent=True)
    if "/" not in name:
        found = shutil.which(name, path=path)
        if found is None:
            beside = program_beside(name, folder)
            advice = f"; write {beside}, or activate that environment" if beside else ""
            raise SpawnError(f"command not found: {name}{advice}", absent=True)
        return found
    file = folder / name
    if not file.exists():
        raise SpawnError(f"command not found: {name} (searched in {folder})", absent=True)
    if file.is_dir():
        raise SpawnError(f"{name} is a folder, not a program")
    if not os.access(file, os.X_OK):
        raise SpawnError(f"not executable: {name} (chmod +x {name})", absent=True)
    _check_interpreter(file)
    return str(file)


def _check_interpreter(file: Path) -> None:
    """Raise SpawnError if a script's first line names a program that is missing."""
    try:
        with file.open("rb") as stream:
            words = stream.readline(256).decode("utf-8", "replace").removeprefix("#!").split()
            stream.seek(0)
            is_script = stream.read(2) == b"#!"
    except OSError:
        return  # executable but not readable
    if is_script and words and not Path(words[0]).exists():
        raise SpawnError(f"interpreter not found: {words[0]} (the first line of {file})", absent=True)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@functools.cache
def die_with_parent() -> tuple[str, ...]:
    """A command prefix with which the kernel kills the program when this process dies; empty without one.

    setpriv sets PDEATHSIG and executes the program, in about a millisecond. A preexec_fn could do it too,
    but runs Python in a fork of a multi-threaded process. The watchdog (watchdog.py) covers systems without
    setpriv, and descendants, which do not inherit PDEATHSIG.
    """
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    if setpriv is None:
        return ()
    prefix = (setpriv, "--pdeathsig", "KILL", "--")
    trial = subprocess.run([*prefix, setpriv, "--version"], capture_output=True, check=False)  # noqa: S603
    return prefix if trial.returncode == 0 else ()


def _watch(process: subprocess.Popen[bytes]) -> asyncio.Future[int]:
    """A future with the process's return code; the process stays unreaped."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int] = loop.create_future()

    def set_code(code: int) -> None:
        if not future.done():
            future.set_result(code)

    try:
        pidfd = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # not Linux, or before 5.3
        _watch_in_thread(process, lambda code: loop.call_soon_threadsafe(set_code, code))
        return future

    def exited() -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        set_code(_wait_unreaped(process))

    loop.add_reader(pidfd, exited)
    return future


def _watch_in_thread(process: subprocess.Popen[bytes], on_exit: Callable[[int], object]) -> None:
    threading.Thread(
        target=lambda: on_exit(_wait_unreaped(process)), name=f"wait for {process.pid}", daemon=True
    ).start()


def _wait_unreaped(process: subprocess.Popen[bytes]) -> int:
    """Wait for a child's exit without reaping it, where the system has waitid."""
    if not hasattr(os, "waitid"):
        return process.wait()
    status = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    if status is None:
        return process.wait()
    return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status
