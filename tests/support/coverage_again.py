"""Goes on measuring coverage after a test that has ended it.

Where a test sets a trace function of its own, as a debugger does, that of coverage is gone: everything that
ran later in the same process would count as not run.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

_trace: Any = None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Remember the trace function, and set it again if it is gone."""
    global _trace
    current = sys.gettrace()
    if current is not None and _trace is None:
        _trace = current
    elif _trace is not None and current is not _trace:
        sys.settrace(_trace)
