"""Tests marked `both_loops` run on asyncio's event loop and on uvloop's.

Sockets, pipes and children pass through the loop. The stack runs on uvloop where it is installed and on
asyncio's loop elsewhere, so what uses them is tested on both. A conftest that imports the hook below
applies it to the tests of its folder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    """Return the loops on which `item` runs."""
    loops: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    if item.get_closest_marker("both_loops"):
        loops["uvloop"] = uvloop.new_event_loop
    return loops
