"""The loop of a simulation: virtual time, and a network that is memory.

Sockets, threads, subprocesses and DNS do not exist here: using one raises NotSimulatedError, which names it.
`run_in_executor` runs its function at once, on the loop, since imports and files are read in threads. The
seed decides when bytes arrive and what fails.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from msctl.simulation.history import History
from msctl.simulation.network import CLIENT, Network
from msctl.simulation.parties import Life, current, current_party
from msctl.simulation.refusals import Refusals
from msctl.simulation.transport import FakeSocket, Pipe
from msctl.simulation.virtual_time import VirtualTimeLoop

if TYPE_CHECKING:
    from msctl.simulation.spans import Spans


class VirtualLoop(VirtualTimeLoop):
    """The loop of one run."""

    def __init__(self, network: Network, history: History, refusals: Refusals | None = None) -> None:
        super().__init__(refusals or Refusals())
        self.network = network
        self.history = history
        self.spans: Spans | None = None
        """Set before the run for one whose traces are shown."""
        self._listening: dict[tuple[str, int], _Listening] = {}
        self._pipes: dict[Pipe, None] = {}
        self._connected: dict[int, tuple[str, int]] = {}
        """The address to which a real socket, which stays unconnected, was connected in name."""
        self._next_port = 40_000

    # --- parties ---------------------------------------------------------------------------------------

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


def _socket(own: tuple[str, int], peer: tuple[str, int]) -> FakeSocket:
    return FakeSocket(own, peer, socket.AF_INET, socket.SOCK_STREAM)


class _Bound:
    """What is asked of a server's socket."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self.family = socket.AF_INET

    def getsockname(self) -> tuple[str, int]:
        return self._address

    def getsockopt(self, _level: int, _option: int) -> int:
        return 1


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
