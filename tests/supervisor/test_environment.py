"""Names of variables; what they hold is tested with real children."""

from __future__ import annotations

import pytest

from msctl.supervisor.environment import variable


@pytest.mark.parametrize(
    ("service", "name"),
    [("users", "USERS_URL"), ("order-items", "ORDER_ITEMS_URL"), ("a.b", "A_B_URL"), ("ü", "__URL")],
)
def test_the_variable_of_a_service(service: str, name: str) -> None:
    assert variable(service) == name
