"""Measures coverage while tests run, and not while they are collected.

Coverage is told of every call. Collecting the tests makes many millions, none of them in msctl but for the
imports of its modules, and takes four times as long while it is measured. So the modules are imported first.

Where a test sets a trace function of its own, as a debugger does, that of coverage is gone: everything that
ran later in the same process would count as not run.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Generator
from typing import Any

import coverage
import pytest

import msctl

_trace: Any = None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    measuring = coverage.Coverage.current()
    if measuring is None:
        return (yield)
    for module in pkgutil.walk_packages(msctl.__path__, "msctl."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    measuring.stop()
    try:
        return (yield)
    finally:
        measuring.start()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Remember the trace function, and set it again if it is gone."""
    global _trace
    current = sys.gettrace()
    if current is not None and _trace is None:
        _trace = current
    elif _trace is not None and current is not _trace:
        sys.settrace(_trace)
