"""Labels follow one rule, and two services never share one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.export.kind import ExportError
from msctl.export.names import label, labels, project_name_label, renamed

SERVICES = st.from_regex(r"[a-z][a-z0-9_-]{0,62}", fullmatch=True)
LABEL = r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"


@given(st.text(min_size=1))
def test_every_name_becomes_a_dns_label(name: str) -> None:
    assert re.fullmatch(LABEL, label(name))


@given(st.from_regex(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True))
def test_dns_label_is_kept(name: str) -> None:
    assert label(name) == name


@given(st.lists(SERVICES, unique=True, max_size=8))
def test_labels_are_unique_or_refused(names: list[str]) -> None:
    try:
        found = labels(names)
    except ExportError:
        return
    assert len(set(found.values())) == len(names)
    assert {text: name for name, text in found.items()} == {label(name): name for name in names}


def test_two_services_with_one_label_are_refused() -> None:
    with pytest.raises(ExportError) as caught:
        labels(["user-service", "user_service"])
    assert caught.value.message.startswith("services.user_service: ")
    assert "'user-service'" in caught.value.message
    assert caught.value.hint == "rename one of them"


def test_name_that_the_target_uses_itself_is_refused() -> None:
    with pytest.raises(ExportError, match="which the broker has"):
        labels(["rabbitmq"], {"rabbitmq": "the broker"})


def test_renaming_is_a_notice() -> None:
    (notice,) = renamed(labels(["user_service", "hello"]))
    assert notice.key == "services.user_service"
    assert "'user-service'" in notice.text


def test_projects_named_in_another_script_have_labels_of_their_own() -> None:
    first, second = project_name_label("订单"), project_name_label("用户")
    assert first != second
    assert label(first) == first
    assert project_name_label("Größe") != project_name_label("Grüße")
    assert project_name_label("shop") == "shop"
