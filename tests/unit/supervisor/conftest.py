"""No task, process or socket of a test outlives it; some tests run on both event loops."""

from __future__ import annotations

import pytest

from tests.support.loops import pytest_asyncio_loop_factories

__all__ = ["pytest_asyncio_loop_factories"]


@pytest.fixture(autouse=True)
def _nothing_is_left(nothing_is_left: None) -> None:
    """Check it in every test, whether or not it makes a supervisor."""
