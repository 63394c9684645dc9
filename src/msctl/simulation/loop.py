"""An event loop on virtual time, whose network is memory.

It is asyncio's own selector loop with another `_run_once`: where a real one would wait for a socket or for
the next timer, this one moves the clock to it. Nothing waits, so an hour takes as long as its callbacks.
Callbacks run in the order in which asyncio runs them; the seed decides when bytes arrive and what fails.

Sockets, threads, subprocesses and DNS do not exist here: using one raises NotSimulatedError, which names it.
`run_in_executor` runs its function at once, on the loop, since imports and files are read in threads.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from msctl.simulation.history import History
from msctl.simulation.network import CLIENT, Network
from msctl.simulation.parties import Life, current, current_party
from msctl.simulation.refusals import Refusals, StuckError
from msctl.simulation.transport import FakeSocket, Pipe

if TYPE_CHECKING:
    from msctl.simulation.spans import Spans

BEGIN_S = 1_800_000_000.0
"""Virtual seconds since the epoch at the beginning."""
MOST_CALLBACKS_A_MOMENT = 200_000
"""Turns of the loop without the clock moving, after which the run is taken to be stuck."""


class _Selector(selectors.BaseSelector):
    """What asyncio registers its own pipe with; there is nothing else to wait for."""

    def __init__(self) -> None:
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self._keys[fileobj] = selectors.SelectorKey(fileobj, 0, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self.register(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        raise NotImplementedError("the loop asks nobody")

    def get_map(self) -> Any:
        return self._keys

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys[fileobj]


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop of one run."""

    def __init__(self, network: Network, history: History, refusals: Refusals | None = None) -> None:
        self.refusals = refusals or Refusals()
        self._virtual = 0.0
        self._standing = 0
        self._timers: list[tuple[float, int, Any]] = []
        self._last_timer = 0
        self._ready: deque[Any]
        self._stopping: bool
        self.turns = 0
        """Turns so far: a loop whose turns stand still is blocked."""
        super().__init__(_Selector())
        self.network = network
        self.history = history
        self.spans: Spans | None = None
        """Set before the run for one whose traces are shown."""
        self._listening: dict[tuple[str, int], _Listening] = {}
        self._pipes: dict[Pipe, None] = {}
        self._connected: dict[int, tuple[str, int]] = {}
        """The address to which a real socket, which stays unconnected, was connected in name."""
        self._next_port = 40_000

    # --- time ------------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._virtual

    def advance(self, timeout: float | None) -> None:
        """Move the clock by what the loop would have waited. Raises StuckError."""
        self.turns += 1
        if self.refusals.first is not None:
            raise self.refusals.first
        if timeout is None:
            raise StuckError(
                "nothing can happen any more: every task waits for what nobody does",
                self._place(asyncio.all_tasks(self)),
            )
        if timeout > 0:
            self._virtual += timeout
            self._standing = 0
            return
        self._standing += 1
        if self._standing > MOST_CALLBACKS_A_MOMENT:
            raise StuckError(
                f"the clock stands at {self._virtual:.3f} s: some code runs again and again without waiting",
                self._place(task for task in map(_task_of, self._ready) if task is not None),
            )

    def _place(self, tasks: Iterable[asyncio.Task[Any]]) -> str:
        """The first line of the user's code at which one of these tasks is."""
        found = [self.refusals.place(_awaited(task.get_coro())) for task in tasks]
        return min(filter(None, found), default="")

    # --- callbacks -------------------------------------------------------------------------------------

    # As asyncio's own, without debugging, thread safety and a selector to be asked: a simulation spends half
    # of its time here. `_ready`, `_stopping` and Handle's slots are those of Python 3.11 to 3.14.

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        life = current.get() if context is None else context.get(current)
        if life is None or life.alive:
            self._ready.append(handle)
        else:
            handle._cancelled = True  # its life is over
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        life = current.get() if context is None else context.get(current)
        if life is None or life.alive:
            self._last_timer += 1
            heappush(self._timers, (when, self._last_timer, timer))
        else:
            timer._cancelled = True
        return timer

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def _run_once(self) -> None:
        timers, ready = self._timers, self._ready
        while timers and timers[0][2]._cancelled:
            heappop(timers)
        if ready or self._stopping:
            self.advance(0.0)
        elif timers:
            self.advance(timers[0][0] - self._virtual)
        else:
            self.advance(None)
        now = self._virtual
        while timers and timers[0][0] <= now:
            timer = heappop(timers)[2]
            if not timer._cancelled:
                ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            try:
                handle._context.run(handle._callback, *handle._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - as Handle._run
                text = f"exception in callback {handle._callback}"
                self.call_exception_handler({"message": text, "exception": error, "handle": handle})

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: cancelled timers leave when their time comes."""

    def end_life(self, life: Life) -> None:
        """Let nothing that was scheduled in a life run any more."""
        life.alive = False
        for handle in (*self._ready, *(timer for _, _, timer in self._timers)):
            if handle._context is not None and handle._context.get(current) is life:
                handle._cancelled = True

    def forget_pipe(self, pipe: Pipe) -> None:
        self._pipes.pop(pipe, None)

    def pipes_between(self, one: str, other: str | None = None) -> list[Pipe]:
        """The connections of a party, or those between two."""
        return [
            pipe
            for pipe in self._pipes
            if one in (pipe.owner, pipe.other) and (other is None or {pipe.owner, pipe.other} == {one, other})
        ]

    def end_party(self, party: str) -> None:
        """Take a party's listeners away and reset its connections."""
        for address, listening in list(self._listening.items()):
            if listening.party == party:
                del self._listening[address]
        for pipe in self.pipes_between(party):
            if pipe.owner == party:
                pipe.abort()

    # --- the network's side of asyncio -----------------------------------------------------------------

    async def create_server(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        if options.get("sock") is not None:
            raise self.refusals.refuse("a real socket cannot listen in a simulation: give a host and a port")
        if options.get("ssl") is not None:
            raise self.refusals.refuse("TLS is not simulated")
        party = current_party(CLIENT)
        hosts = [host] if isinstance(host, str) or host is None else list(host)
        address = self.network.address(party)
        self._next_port += 1
        number = int(port or 0) or self._next_port
        if (address, number) in self._listening:
            raise OSError(98, f"{hosts[0]}:{number} is already in use")
        listening = _Listening(self, party, (address, number), protocol_factory, current.get())
        if options.get("start_serving", True):
            await listening.start_serving()
        return listening

    def listen(self, listening: _Listening) -> None:
        self._listening[listening.address] = listening

    def unlisten(self, listening: _Listening) -> None:
        if self._listening.get(listening.address) is listening:
            del self._listening[listening.address]

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        if options.get("ssl"):
            raise self.refusals.refuse(f"TLS is not simulated: {host}:{port}")
        sock = options.get("sock")
        if sock is not None:
            target = self._connected.pop(id(sock), None)
            if target is None:
                raise self.refusals.refuse("a socket that was connected outside of the simulation")
            sock.close()
        else:
            target = (str(host), int(port))
        return await self._connect(protocol_factory, target)

    async def sock_connect(self, sock: Any, address: Any) -> None:
        target = (str(address[0]), int(address[1]))
        await self._handshake(target)
        self._connected[id(sock)] = target

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        party = self.network.party(name)
        if party is None:
            raise socket.gaierror(socket.EAI_NONAME, f"{name} is not known in the simulation")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.network.address(party), int(port or 0)))]

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> Any:  # noqa: ARG002 - asyncio's signature
        return str(sockaddr[0]), str(sockaddr[1])

    def run_in_executor(  # type: ignore[override]
        self,
        executor: Any,  # noqa: ARG002 - asyncio's signature
        func: Any,
        *args: Any,
    ) -> Any:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except BaseException as error:  # noqa: BLE001 - it is the future's
            future.set_exception(error)
        return future

    def add_reader(self, *_: Any) -> None:  # type: ignore[override]
        raise self.refusals.refuse("a file descriptor cannot be watched in a simulation")

    add_writer = add_reader  # type: ignore[assignment]

    def add_signal_handler(self, *_: Any) -> None:  # type: ignore[override]
        """Do nothing: no signal comes."""

    def remove_signal_handler(self, *_: Any) -> bool:
        return False

    async def create_datagram_endpoint(self, *_: Any, **__: Any) -> Any:
        raise self.refusals.refuse("a datagram socket cannot be opened in a simulation")

    async def create_unix_connection(self, *_: Any, **__: Any) -> Any:
        raise self.refusals.refuse("a Unix socket cannot be opened in a simulation")

    create_unix_server = create_unix_connection

    async def connect_read_pipe(self, *_: Any) -> Any:
        raise self.refusals.refuse("a pipe cannot be opened in a simulation")

    connect_write_pipe = connect_read_pipe  # type: ignore[assignment]

    async def subprocess_exec(self, *_: Any, **__: Any) -> Any:
        raise self.refusals.refuse("a subprocess cannot run in a simulation")

    subprocess_shell = subprocess_exec

    async def _handshake(self, target: tuple[str, int]) -> _Listening:
        """Wait as long as a connection takes, and find who listens there; refused if nobody does."""
        party = self.network.party(target[0])
        if target[0] in ("127.0.0.1", "localhost", "::1"):
            party = current_party(CLIENT)
        if party is None:
            raise self.refusals.refuse(f"{target[0]}:{target[1]} is outside of the simulation")
        own = current_party(CLIENT)
        for _ in range(2):
            arrival = self.network.arrival(own, party, self.time())
            await asyncio.sleep(max(0.0, arrival - self.time()))
        listening = self._listening.get((self.network.address(party), target[1]))
        if listening is None:
            raise ConnectionRefusedError(111, f"Connect call failed {target}")
        return listening

    async def _connect(self, protocol_factory: Any, target: tuple[str, int]) -> Any:
        listening = await self._handshake(target)
        own = current_party(CLIENT)
        self._next_port += 1
        here = (self.network.address(own), self._next_port)
        context = listening.context.copy()
        near = Pipe(self, own, listening.party, here, target, _socket(here, target), copy_context())
        far = Pipe(self, listening.party, own, listening.address, here, _socket(target, here), context)
        near.peer, far.peer = far, near
        self._pipes[near] = self._pipes[far] = None
        self.history.add(self.time(), f"{own} connects to {listening.party}:{target[1]}")
        server_protocol = context.run(listening.protocol_factory)
        far.set_protocol(server_protocol)
        self.call_soon(server_protocol.connection_made, far, context=context)
        protocol = protocol_factory()
        near.set_protocol(protocol)
        protocol.connection_made(near)
        return near, protocol


def _task_of(handle: Any) -> asyncio.Task[Any] | None:
    """The task whose step a handle is."""
    found = getattr(handle._callback, "__self__", None)
    return found if isinstance(found, asyncio.Task) else None


def _awaited(coroutine: Any) -> list[tuple[str, int]]:
    """Where a coroutine and what it awaits are, from the innermost outward."""
    frames: list[tuple[str, int]] = []
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None)
        if frame is not None:
            frames.append((frame.f_code.co_filename, frame.f_lineno))
        coroutine = getattr(coroutine, "cr_await", None)
    return frames[::-1]


def _socket(own: tuple[str, int], peer: tuple[str, int]) -> FakeSocket:
    return FakeSocket(own, peer, socket.AF_INET, socket.SOCK_STREAM)


class _Bound:
    """What is asked of a server's socket."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self.family = socket.AF_INET

    def getsockname(self) -> tuple[str, int]:
        return self._address


class _Listening(asyncio.AbstractServer):
    """A server of a party."""

    def __init__(
        self,
        loop: VirtualLoop,
        party: str,
        address: tuple[str, int],
        protocol_factory: Callable[[], Any],
        life: Life | None,
    ) -> None:
        self._loop = loop
        self.party = party
        self.address = address
        self.protocol_factory = protocol_factory
        self.life = life
        self.context = copy_context()
        """That of the code that listens: its connections run in copies of it."""
        self.sockets = [_Bound(address)]

    async def start_serving(self) -> None:
        self._loop.listen(self)

    def is_serving(self) -> bool:
        return True

    def close(self) -> None:
        self._loop.unlisten(self)
        self.sockets = []

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    async def wait_closed(self) -> None:
        return None

    async def serve_forever(self) -> None:
        await asyncio.get_running_loop().create_future()
