"""SRV records (RFC 2782): a question and its answer as bytes, and the asking by UDP.

The system's resolver has no call for SRV, so this asks the name servers of /etc/resolv.conf itself. An answer
counts only with the question's id, name and type, from the address that was asked (asyncio's connected socket
sees to that).
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SRV, OPT, IN = 33, 41, 1
PAYLOAD = 4096
"""The bytes of an answer that are taken (EDNS0, RFC 6891)."""
TRY_S = 1.5
TRIES = 2
RESOLV_CONF = Path("/etc/resolv.conf")

_NAME_ERRORS = {2: "the name server failed", 3: "there is no such name", 5: "the name server refused"}


class SrvError(OSError):
    """There is no usable answer; the text says why."""


class Record(NamedTuple):
    """One SRV record."""

    priority: int
    weight: int
    port: int
    target: str


def question(name: str, number: int) -> bytes:
    """Return a query for the SRV records of `name`; raises SrvError for a name that cannot be asked for."""
    labels = name.rstrip(".").encode("ascii", "replace").split(b".")
    if not all(0 < len(label) < 64 for label in labels) or len(name) > 253:
        raise SrvError(f"{name} is not a name")
    asked = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    head = struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 1)
    return head + asked + struct.pack("!HH", SRV, IN) + struct.pack("!BHHIH", 0, OPT, PAYLOAD, 0, 0)


def answer(data: bytes, name: str, number: int) -> tuple[Record, ...]:
    """Return the records, those of lowest priority first; raises SrvError for any other answer."""
    try:
        return _answer(data, name, number)
    except (struct.error, IndexError, UnicodeDecodeError):
        raise SrvError("the answer is malformed") from None


def _answer(data: bytes, name: str, number: int) -> tuple[Record, ...]:
    found, flags, questions, answers, _, _ = struct.unpack_from("!HHHHHH", data)
    if found != number or not flags & 0x8000 or questions != 1:
        raise SrvError("the answer is to another question")
    if flags & 0x000F:
        raise SrvError(_NAME_ERRORS.get(flags & 0x000F, f"the name server answered with {flags & 0x000F}"))
    asked, position = _name(data, 12)
    kind, _ = struct.unpack_from("!HH", data, position)
    if asked.lower() != name.rstrip(".").lower() or kind != SRV:
        raise SrvError("the answer is to another question")
    position += 4
    records: list[Record] = []
    for _ in range(answers):
        _, position = _name(data, position)
        kind, _, _, length = struct.unpack_from("!HHIH", data, position)
        position += 10
        if kind == SRV:
            priority, weight, port = struct.unpack_from("!HHH", data, position)
            target, _ = _name(data, position + 6)
            if target and port:
                records.append(Record(priority, weight, port, target))
        position += length
    if not records:
        raise SrvError("the name has no SRV records")
    return tuple(sorted(records))


def _name(data: bytes, position: int) -> tuple[str, int]:
    """Return a name and the position after it; pointers lead back, so they end (RFC 1035 §4.1.4)."""
    labels: list[str] = []
    after, limit = 0, position
    while True:
        length = data[position]
        if length & 0xC0 == 0xC0:
            pointer = (length & 0x3F) << 8 | data[position + 1]
            after = after or position + 2
            if pointer >= limit:
                raise IndexError("a pointer that leads on")
            position = limit = pointer
        elif length & 0xC0:
            raise IndexError("a label of an unknown kind")
        elif not length:
            return ".".join(labels), after or position + 1
        else:
            label = data[position + 1 : position + 1 + length]
            if len(label) < length:
                raise IndexError("a label beyond the end")
            labels.append(label.decode("ascii"))
            position += 1 + length


def name_servers(text: str) -> list[str]:
    """Return the addresses of a resolv.conf."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                ipaddress.ip_address(words[1].partition("%")[0])
            except ValueError:
                continue
            found.append(words[1])
    return found


class _Asking(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - the socket is connected
        if not self.received.done():
            self.received.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.received.done():
            self.received.set_exception(exc)


async def ask(name: str, servers: Sequence[tuple[str, int]]) -> tuple[Record, ...]:
    """Return the SRV records of `name` from the first server that answers; raises SrvError."""
    failure: OSError = SrvError("there is no name server")
    for server in [server for server in servers for _ in range(TRIES)]:
        try:
            return await _ask(name, server)
        except TimeoutError:
            failure = SrvError(f"the name server {server[0]} did not answer")
        except OSError as error:
            failure = error if isinstance(error, SrvError) else SrvError(str(error))
    raise failure


async def _ask(name: str, server: tuple[str, int]) -> tuple[Record, ...]:
    number = secrets.randbelow(65536)
    loop = asyncio.get_running_loop()
    transport, asking = await loop.create_datagram_endpoint(_Asking, remote_addr=server)
    try:
        transport.sendto(question(name, number))
        async with asyncio.timeout(TRY_S):
            return answer(await asking.received, name, number)
    finally:
        transport.close()
