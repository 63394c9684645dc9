"""A template encodes a message exactly as the library encodes it, only faster."""

from __future__ import annotations

from datetime import UTC, datetime

import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from msctl.amqp.frames import PublishTemplate

FRAME_MAX = 4096
ID = "0123456789abcdef" * 2


def make(properties: Basic.Properties, frame_max: int = FRAME_MAX) -> PublishTemplate:
    return PublishTemplate.make(
        properties, exchange="ex", routing_key="key", mandatory=True, channel=3, frame_max=frame_max
    )


def by_library(properties: Basic.Properties, body: bytes) -> bytes:
    room = FRAME_MAX - 8
    frames: list[Basic.Publish | ContentHeader | ContentBody] = [
        Basic.Publish(exchange="ex", routing_key="key", mandatory=True),
        ContentHeader(body_size=len(body), properties=properties),
        *(ContentBody(body[start : start + room]) for start in range(0, len(body), room)),
    ]
    return b"".join(pamqp.frame.marshal(frame, 3) for frame in frames)


@given(st.binary(max_size=3 * FRAME_MAX))
def test_any_body_is_encoded_as_the_library_does(body: bytes) -> None:
    encoded = make(Basic.Properties(content_type="text/plain")).encode(body, ID)
    assert encoded == by_library(Basic.Properties(content_type="text/plain", message_id=ID), body)


def test_all_properties_around_the_message_id_keep_their_places() -> None:
    def properties(message_id: str | None) -> Basic.Properties:
        return Basic.Properties(
            content_type="a/b",
            headers={"k": "v"},
            delivery_mode=2,
            expiration="5",
            message_id=message_id,
            timestamp=datetime(2026, 1, 2, tzinfo=UTC),
            app_id="app",
        )

    assert make(properties(None)).encode(b"x", ID) == by_library(properties(ID), b"x")


def test_an_id_that_the_user_chose_is_kept() -> None:
    template = make(Basic.Properties(message_id="mine"))
    assert template.own_id == "mine"
    assert template.encode(b"x", ID) == by_library(Basic.Properties(message_id="mine"), b"x")


def test_making_a_template_leaves_the_properties_as_they_were() -> None:
    properties = Basic.Properties()
    make(properties)
    assert not properties.message_id


def test_headers_larger_than_a_frame_are_refused() -> None:
    with pytest.raises(ValueError, match="a frame 4096"):
        make(Basic.Properties(headers={"k": "v" * FRAME_MAX}))


def test_a_value_that_does_not_fit_its_field_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be encoded"):
        make(Basic.Properties(content_type="x" * 300))
