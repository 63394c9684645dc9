"""Probes of a service: a connection, a request, a command. When they run is decided in `probe_schedule`."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from types import MappingProxyType
from typing import TYPE_CHECKING

from msctl.model.address import Address, local_host
from msctl.processes.child import describe_exit, die_with_parent
from msctl.processes.probe_schedule import PROBE_TIMEOUT
from msctl.processes.process_table import HELPER, MARK, signal_group

if TYPE_CHECKING:
    import ssl

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


Probe = Callable[[], Awaitable[None]]
"""Runs one probe; raises ProbeError if it fails."""


class ProbeError(Exception):
    """A probe failed; the text says why."""


async def run_probe(probe: Probe, timeout: float = PROBE_TIMEOUT) -> str | None:
    """Run a probe once, for at most `timeout` seconds; returns None, or why it failed."""
    try:
        async with asyncio.timeout(timeout):
            await probe()
    except TimeoutError:
        return f"no response within {timeout:g} s"
    except ProbeError as error:
        return str(error)
    return None


@dataclass(frozen=True, slots=True)
class ProbeTls:
    """TLS of a probe: the context, and the name that the certificate must have."""

    context: ssl.SSLContext
    server_name: str


def tcp_probe(address: Address, tls: ProbeTls | None = None) -> Probe:
    """A probe that succeeds if the address accepts a connection, with `tls` one whose certificate holds."""

    async def probe() -> None:
        _, writer = await _connect(address, tls)
        writer.transport.abort()

    return probe


def http_probe(
    address: Address,
    path: str,
    headers: Mapping[str, str] = _NO_HEADERS,
    *,
    https: bool = False,
    tls: ProbeTls | None = None,
) -> Probe:
    """A probe that succeeds if a GET is answered with 2xx or 3xx, as in Kubernetes.

    With `https` it speaks TLS and accepts any certificate, with `tls` only the right one.
    """
    target = path if path.startswith("/") else f"/{path}"
    fields = {"Host": str(address), "User-Agent": "msctl-probe", **headers, "Connection": "close"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    head = f"GET {target} HTTP/1.1\r\n{lines}"
    if https and tls is None:
        tls = ProbeTls(_any_certificate(), local_host(address.host))

    async def probe() -> None:
        reader, writer = await _connect(address, tls)
        try:
            # The flag says "not sampled": a program that sends its traces leaves probes out.
            trace = f"traceparent: 00-{token_hex(16)}-{token_hex(8)}-00\r\n\r\n"
            writer.write((head + trace).encode())
            line = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            raise ProbeError(f"GET {target}: the connection was closed without a response") from error
        except (OSError, asyncio.LimitOverrunError) as error:
            raise ProbeError(f"GET {target}: {error}") from error
        finally:
            writer.transport.abort()
        words = line.decode("latin-1").split()
        if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
            raise ProbeError(f"GET {target}: the response is not HTTP")
        if not 200 <= int(words[1]) < 400:
            raise ProbeError(f"GET {target}: {' '.join(words[1:])}")

    return probe


def exec_probe(argv: Sequence[str], env: Mapping[str, str], cwd: Path | None) -> Probe:
    """A probe that succeeds if a command exits with 0; what it started is killed at its end."""

    async def probe() -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *die_with_parent(),
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env={**env, MARK: HELPER},
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise ProbeError(f"cannot run {argv[0]}: {error.strerror or error}") from error
        try:
            code = await process.wait()
        finally:
            signal_group(process.pid, signal.SIGKILL)
            if process.returncode is None:
                await asyncio.shield(process.wait())
        if code != 0:
            raise ProbeError(f"{argv[0]}: {describe_exit(code)}")

    return probe


def _any_certificate() -> ssl.SSLContext:
    import ssl

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _connect(
    address: Address, tls: ProbeTls | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_connection(
            local_host(address.host),
            address.port,
            limit=16 * 1024,
            ssl=None if tls is None else tls.context,
            server_hostname=None if tls is None else tls.server_name,
        )
    except ConnectionRefusedError as error:
        raise ProbeError(f"connection refused on {address}") from error
    except OSError as error:
        raise ProbeError(f"cannot connect to {address}: {error.strerror or error}") from error
