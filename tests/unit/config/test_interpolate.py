"""`${VARIABLE}` as docker compose reads it, but for bare `$NAME`, which stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.config.reading.interpolate import InterpolationError, expand

ENV = {"SET": "value", "EMPTY": "", "OTHER": "other"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("a${SET}b", "avalueb"),
        ("${EMPTY}", ""),
        ("${SET:-x}", "value"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY-x}", ""),
        ("${UNSET-x}", "x"),
        ("${UNSET:-}", ""),
        ("${UNSET:-${OTHER}}", "other"),
        ("${UNSET:-a ${UNSET2-b} c}", "a b c"),
        ("${SET:-${UNSET}}", "value"),
        ("${SET:+x}", "x"),
        ("${EMPTY:+x}", ""),
        ("${EMPTY+x}", "x"),
        ("${UNSET+x${UNSET}}", ""),
        ("${SET:?needed}", "value"),
        ("${EMPTY?needed}", ""),
        ("$$", "$"),
        ("$${SET}", "${SET}"),
        ("$$$${", "$${"),
        ("$PORT stays, as $ and $1 do", "$PORT stays, as $ and $1 do"),
        ("${UNSET:-$$PORT}", "$PORT"),
    ],
)
def test_expands(text: str, value: str) -> None:
    assert expand(text, ENV.get) == value


@pytest.mark.parametrize(
    ("text", "message", "variable"),
    [
        ("${UNSET}", "the variable UNSET is not set", "UNSET"),
        ("${UNSET:-${ALSO}}", "the variable ALSO is not set", "ALSO"),
        ("${EMPTY:?say what}", "say what", "EMPTY"),
        ("${UNSET?}", "the variable UNSET is not set", "UNSET"),
        ("${SET", '"${SET" is not closed by "}"', "SET"),
        ("${UNSET:-x", '"${" is not closed by "}"', None),
        ("${}", '"${" must be followed by the name of a variable', None),
        ("${1}", '"${" must be followed by the name of a variable', None),
    ],
)
def test_says_what_is_wrong(text: str, message: str, variable: str | None) -> None:
    with pytest.raises(InterpolationError) as caught:
        expand(text, ENV.get)
    assert (caught.value.message, caught.value.variable) == (message, variable)


@given(st.text())
def test_doubled_dollars_give_back_any_text(text: str) -> None:
    assert expand(text.replace("$", "$$"), ENV.get) == text
