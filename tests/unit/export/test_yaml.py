"""Every document reads back unchanged with PyYAML, which reads YAML 1.1."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from msctl.export.yaml import dump, dump_all

SCALARS = st.none() | st.booleans() | st.integers() | st.text()
DOCUMENTS: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(DOCUMENTS)
def test_every_document_is_read_back_as_it_was(document: Any) -> None:
    assert yaml.safe_load(dump(document)) == document


@given(st.text(alphabet=" \t\n#:'\"-|>ab\\\x85\u2028\ufeff", max_size=12))
def test_a_text_of_many_lines_is_kept_byte_for_byte(text: str) -> None:
    assert yaml.safe_load(dump({"key": text, "list": [text]})) == {"key": text, "list": [text]}


@pytest.mark.parametrize(
    "text",
    [
        "yes",
        "No",
        "on",
        "null",
        "~",
        "1",
        "1.5",
        "0x1f",
        "12:30",
        "1e3",
        "",
        " a",
        "a: b",
        "a #b",
        "-",
        "=",
        "<<",
    ],
)
def test_strings_that_look_like_other_types_are_quoted(text: str) -> None:
    assert yaml.safe_load(dump([text])) == [text]


def test_plain_words_are_written_plainly() -> None:
    document = {"image": "rabbitmq:3-management", "path": "/app/msctl.toml", "on": True, "none": {}}
    assert dump(document, comment="What\nfor") == (
        '# What\n# for\nimage: rabbitmq:3-management\npath: /app/msctl.toml\n"on": true\nnone: {}\n'
    )


def test_several_documents_are_one_file() -> None:
    assert list(yaml.safe_load_all(dump_all([{"a": 1}, {"b": [1, {"c": []}]}]))) == [
        {"a": 1},
        {"b": [1, {"c": []}]},
    ]
