"""Messages are printed safely, and JSON has all their properties."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Basic

from msctl.amqp.delivery import Delivery
from msctl.cli.output.message_format import as_json, raw, received, shown


def delivery(body: bytes = b"x", properties: Basic.Properties | None = None) -> Delivery:
    return Delivery(body, properties or Basic.Properties(), "ex", "key", redelivered=True)


@given(st.binary())
def test_nothing_shown_can_move_the_cursor_or_colour_the_terminal(body: bytes) -> None:
    assert all(char.isprintable() or char in "\t\n" or ord(char) > 0x9F for char in shown(body))


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_printable_text_is_shown_as_it_is(text: str) -> None:
    assert shown(text.encode()) == text


def test_escape_sequences_and_broken_utf_8_become_escapes() -> None:
    assert shown(b"\x1b[31mred\xff\r") == "\\x1b[31mred\\xff\\x0d"


def test_last_line_end_is_left_out() -> None:
    assert shown(b"a\nb\n") == "a\nb"
    assert received(delivery(b"a\n")) == b"Received a message: a\n"


def test_raw_is_the_body_and_a_line_end() -> None:
    assert raw(delivery(b"\xff\x00")) == b"\xff\x00\n"


@given(st.binary())
def test_any_body_survives_json_on_one_line(body: bytes) -> None:
    import base64

    line = as_json(delivery(body))
    assert line.count(b"\n") == 1
    document = json.loads(line)
    encoded = document["body"]
    back = base64.b64decode(encoded) if document["body_encoding"] == "base64" else encoded.encode()
    assert back == body


def test_json_holds_where_it_came_from_and_only_properties_that_are_set() -> None:
    properties = Basic.Properties(content_type="a/b", priority=0, message_type="t")
    assert json.loads(as_json(delivery(b"x", properties))) == {
        "body": "x",
        "body_encoding": "utf-8",
        "exchange": "ex",
        "routing_key": "key",
        "redelivered": True,
        "properties": {"content_type": "a/b", "priority": 0, "type": "t"},
        "headers": {},
    }


def test_every_type_of_header_has_a_json_form() -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    properties = Basic.Properties(
        headers={
            "bytes": b"text",
            "binary": b"\xff",
            "time": when,
            "decimal": Decimal("1.50"),
            "nan": float("nan"),
            "float": 1.5,
            "none": None,
            "nested": {"list": [True, 1, b"x", {"deep": "er"}]},
        }
    )
    assert json.loads(as_json(delivery(b"", properties)))["headers"] == {
        "bytes": "text",
        "binary": {"base64": "/w=="},
        "time": "2026-01-02T03:04:05Z",
        "decimal": "1.50",
        "nan": "nan",
        "float": 1.5,
        "none": None,
        "nested": {"list": [True, 1, "x", {"deep": "er"}]},
    }
