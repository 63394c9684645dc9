"""Names and globs that a user types."""

from __future__ import annotations

import pytest

from msctl.errors import ExitCode, UnknownServiceError
from msctl.model.service_names import select

KNOWN = ["hello", "users", "user-mail", "gateway"]


def test_names_come_in_the_order_of_the_project_each_once() -> None:
    assert select(["users", "hello", "users"], KNOWN) == ["hello", "users"]


def test_a_glob_means_every_name_that_fits() -> None:
    assert select(["user*"], KNOWN) == ["users", "user-mail"]


def test_no_name_means_none() -> None:
    assert select([], KNOWN) == []


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownServiceError, match="there is no service 'usres'") as caught:
        select(["hello", "usres"], KNOWN)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("did you mean 'users'?")
    assert caught.value.exit_code is ExitCode.UNKNOWN_SERVICE


def test_a_glob_that_fits_nothing_is_refused() -> None:
    with pytest.raises(UnknownServiceError, match=r"no service matches 'z\*'") as caught:
        select(["z*"], KNOWN)
    assert caught.value.hint == "the project has: hello, users, user-mail, gateway"


def test_a_project_without_services_says_so() -> None:
    with pytest.raises(UnknownServiceError) as caught:
        select(["hello"], [])
    assert caught.value.hint == "the project has no services"
