"""`--long`: the tests marked `long`, more examples of every property, and the figures that tests record.

def test_it(record: Record) -> None:
    record("memory, MiB", 3.2)
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

Record = Callable[[str, float], None]

EXAMPLES = 20
"""How many times as many examples a property is tried with."""

_FIGURE = "figure"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="only what is too large for every change")


def pytest_configure(config: pytest.Config) -> None:
    """Set the number of examples before any test is imported; no example has a time limit of its own."""
    long = config.getoption("--long")
    examples = (EXAMPLES if long else 1) * settings().max_examples
    # Hypothesis measures how long it takes to make examples, which on a busy machine says nothing.
    slow = [HealthCheck.too_slow]
    settings.register_profile("msctl", max_examples=examples, deadline=None, suppress_health_check=slow)
    settings.load_profile("msctl")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without --long leave out what is marked so; with it keep that, and every property."""
    long = bool(config.getoption("--long"))
    kept = [
        item
        for item in items
        if (item.get_closest_marker("long") is not None) == long
        or (long and is_hypothesis_test(getattr(item, "obj", None)))
    ]
    chosen = set(kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = kept


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Show a figure in the summary of a run with --long."""
    return lambda name, value: request.node.user_properties.append((_FIGURE, f"{name}: {value:.1f}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not config.getoption("--long"):
        return
    terminalreporter.section("figures")
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if name == _FIGURE:
                terminalreporter.line(f"{report.nodeid}: {value}")
