"""A Secret never shows its value unless asked for it by name."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle

import msgspec
import pytest

from msctl.secret import Secret

VALUE = "correct horse battery staple"


@dataclasses.dataclass(frozen=True)
class Holder:
    key: Secret


@pytest.mark.parametrize(
    "shown",
    [
        repr(Secret(VALUE)),
        str(Secret(VALUE)),
        f"{Secret(VALUE)}",
        f"{Secret(VALUE)!r:>10}",
        f"{Secret(VALUE):>10}",
        "%s %r" % (Secret(VALUE), Secret(VALUE)),  # noqa: UP031 - as logging formats
        repr(Holder(Secret(VALUE))),
        repr(dataclasses.asdict(Holder(Secret(VALUE)))),
        repr([Secret(VALUE)]),
        json.dumps({"key": Secret(VALUE)}, default=str),
        repr(copy.deepcopy(Holder(Secret(VALUE)))),
    ],
)
def test_printing_shows_a_mask(shown: str) -> None:
    assert "***" in shown
    assert "horse" not in shown


def test_logging_shows_a_mask(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("msctl.test").warning("the key is %s", Secret(VALUE))
    assert "***" in caplog.text
    assert "horse" not in caplog.text


@pytest.mark.parametrize(
    "encode",
    [json.dumps, msgspec.json.encode, msgspec.to_builtins, pickle.dumps, "".join, lambda s: s.encode()],
)
def test_encoding_fails(encode: object) -> None:
    assert callable(encode)
    for given in (Secret(VALUE), [Secret(VALUE)], Holder(Secret(VALUE))):
        with pytest.raises((TypeError, AttributeError)):
            encode(given)


def test_secrets_compare_by_value() -> None:
    assert Secret(VALUE) == Secret(VALUE)
    assert Secret(VALUE) != Secret("other")
    assert Secret(VALUE) != VALUE
    assert hash(Secret(VALUE)) == hash(Secret(VALUE))
    assert not Secret("")


@pytest.mark.parametrize(
    ("given", "same"),
    [(VALUE.encode(), True), (b"", False), (b"\xff\x00", False), (VALUE[:-1].encode(), False)],
)
def test_matches_compares_bytes(given: bytes, same: bool) -> None:
    assert Secret(VALUE).matches(given) is same
    assert Secret(VALUE).reveal() == VALUE
