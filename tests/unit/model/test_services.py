"""The questions asked of a declaration, each by its kinds of service."""

from __future__ import annotations

import pytest

from msctl.model.project import Isolation, ServiceSpec
from msctl.model.services import process_stop_timeout, stop_timeout


@pytest.mark.parametrize(
    ("spec", "in_stack", "alone"),
    [
        (ServiceSpec("a", app="a:b"), 5.0, 10.0),
        (ServiceSpec("a", app="a:b", stop_timeout=10.0), 10.0, 10.0),
        (ServiceSpec("a", app="a:b", isolation=Isolation.PROCESS), 10.0, 10.0),
        (ServiceSpec("a", command=("x",)), 10.0, 10.0),
        (ServiceSpec("a", command=("x",), stop_timeout=0.0), 0.0, 0.0),
    ],
)
def test_a_stop_timeout_that_is_set_is_never_taken_for_the_default(
    spec: ServiceSpec, in_stack: float, alone: float
) -> None:
    assert stop_timeout(spec) == in_stack
    assert process_stop_timeout(spec) == alone
