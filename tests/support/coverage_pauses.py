"""Measures coverage while fixtures and tests run, and neither pytest nor Hypothesis around them.

Coverage is told of every line that Python runs, which takes twice as long, also of those that it leaves out.
So it listens to nothing else: not to the collection of the tests (modules that a test imports are imported
before), not to pytest between the tests, and of a property to the examples and not to how they are made. A
test that is marked `unmeasured` makes many rounds of what others run too.

Where a test sets a trace function of its own, as a debugger does, the next one has that of coverage again.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import coverage
import pytest
from hypothesis import is_hypothesis_test

import msctl

_trace: Any = None
"""Coverage's trace function; None where nothing is measured."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    global _trace
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
        _trace = sys.gettrace()
        sys.settrace(None)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_fixture_setup() -> Generator[None, object, object]:
    with _tracing(_trace):
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    with _tracing(None if item.get_closest_marker("unmeasured") else _trace):
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_teardown() -> Generator[None, object, object]:
    with _tracing(_trace):
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Trace the examples of a property; inner_test is what Hypothesis has for other plugins."""
    trace = sys.gettrace()
    if trace is None or not is_hypothesis_test(pyfuncitem.obj):
        return (yield)
    handle = pyfuncitem.obj.hypothesis
    inner = handle.inner_test

    @functools.wraps(inner)
    def example(*args: object, **kwargs: object) -> object:
        with _tracing(trace):
            return inner(*args, **kwargs)

    handle.inner_test = example
    try:
        with _tracing(None):
            return (yield)
    finally:
        handle.inner_test = inner


@contextmanager
def _tracing(trace: Any) -> Iterator[None]:
    former = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(former)
