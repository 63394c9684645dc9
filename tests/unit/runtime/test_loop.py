"""The event loop is uvloop's where it is installed, and asyncio's own where it is not."""

from __future__ import annotations

import asyncio
import sys

import pytest

from msctl.runtime.loop import new_event_loop


@pytest.mark.parametrize("installed", [True, False])
def test_uvloop_is_used_where_it_is_installed(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if installed:
        pytest.importorskip("uvloop")
    else:
        monkeypatch.setitem(sys.modules, "uvloop", None)
    loop = new_event_loop()
    try:
        assert isinstance(loop, asyncio.AbstractEventLoop)
        assert type(loop).__module__.startswith("uvloop") is installed
    finally:
        loop.close()
