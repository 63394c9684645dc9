"""The process that holds a port is named."""

from __future__ import annotations

import subprocess
import sys

import pytest

from msctl import ports
from msctl.errors import PortTakenError
from msctl.model.address import Address


def test_the_holder_of_a_port_is_named() -> None:
    code = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); "
        "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        port = int(holder.stdout.readline())
        with pytest.raises(PortTakenError) as caught:
            ports.bind(Address("127.0.0.1", port), "web")
        holder.communicate()
    assert caught.value.message.startswith(
        f"127.0.0.1:{port} is taken by pid {holder.pid} ({sys.executable} -c "
    )
    assert caught.value.message.endswith("service 'web' needs it")
    assert len(caught.value.message) < 200
    assert "another port" in (caught.value.hint or "")
