"""Weights, canaries and sticky clients: which service and which instance a request gets."""

from __future__ import annotations

from collections import Counter

import pytest

from msctl.gateway.message.headers import Field
from msctl.gateway.policies.affinity import key_of, set_cookie, tied, token
from msctl.gateway.policies.split import Choice, Split, cookie, split_of
from msctl.model.route_policies import CanarySpec, StickySpec
from msctl.model.route_spec import RouteSpec

CANARY = CanarySpec("next", share=0.25, header="X-Canary", cookie="canary")


def always(_service: str) -> bool:
    return True


def shares(split: Split, *fields: Field, down: str = "") -> Counter[str]:
    """Choose with 1000 chances that cover 0 to 1 evenly."""
    counts: Counter[str] = Counter()
    for number in range(1000):
        counts[split.choose(fields, lambda n=number: n / 1000, lambda name: name != down).service] += 1  # type: ignore[misc]
    return counts


def test_a_route_without_weights_and_canary_is_not_split() -> None:
    assert split_of(RouteSpec("/", "web")) is None


def test_each_service_gets_its_weight() -> None:
    split = Split(RouteSpec("/", "web", weights={"web": 7, "next": 2, "off": 0, "last": 1}))
    assert shares(split) == {"web": 700, "next": 200, "last": 100}
    assert split.services == ("web", "next", "last")


def test_a_service_that_is_down_leaves_its_share_to_the_others() -> None:
    split = Split(RouteSpec("/", "web", weights={"web": 7, "next": 3}))
    assert shares(split, down="next") == {"web": 1000}
    alone = Split(RouteSpec("/", "web", weights={"next": 1}))
    assert shares(alone, down="next") == {"next": 1000}  # which then answers 503 by its name


def test_a_canary_gets_its_share_while_it_is_up() -> None:
    split = Split(RouteSpec("/", "web", canary=CANARY))
    assert shares(split) == {"next": 250, "web": 750}
    assert shares(split, down="next") == {"web": 1000}


@pytest.mark.parametrize(
    "field", [(b"x-canary", b"always"), (b"Cookie", b"a=b; canary=always"), (b"Cookie", b'canary="always"')]
)
def test_a_request_that_asks_for_the_canary_gets_it_even_if_it_is_down(field: Field) -> None:
    split = Split(RouteSpec("/", "web", canary=CANARY))
    assert shares(split, field, down="next") == {"next": 1000}
    assert split.choose([field], lambda: 0.9, always) == Choice("next", forced=True)


def test_the_field_decides_before_the_cookie_and_other_values_leave_it_to_the_share() -> None:
    split = Split(RouteSpec("/", "web", canary=CANARY))
    never = (b"X-Canary", b"never")
    assert shares(split, never) == {"web": 1000}
    assert shares(split, never, (b"Cookie", b"canary=always")) == {"web": 1000}
    assert shares(split, (b"X-Canary", b"perhaps"), (b"X-Canary2", b"always")) == {"next": 250, "web": 750}


def test_a_canary_of_a_weighted_route_leaves_the_rest_to_the_weights() -> None:
    split = Split(
        RouteSpec("/", "web", weights={"a": 1, "b": 1}, canary=CanarySpec("c", header="X-C", value="1"))
    )
    assert shares(split, (b"X-C", b"1")) == {"c": 1000}
    assert shares(split) == {"a": 500, "b": 500}


def test_a_cookie_is_found_among_others_by_its_whole_name() -> None:
    fields = [(b"Cookie", b"xa=1; a=2;a=3"), (b"cookie", b"a ; b=a=4; a=")]
    assert cookie(fields, "a") == ["2", "3", ""]
    assert cookie(fields, "b") == ["a=4"]


def test_a_cookie_ties_a_client_to_its_instance_and_a_forged_one_to_none() -> None:
    spec = StickySpec(cookie="tied")
    names = ["web-1", "web-2", "web-3"]
    name, value = set_cookie(spec, "web", "web-2", secure=False)
    assert (name, b"web-2" in value, b"HttpOnly" in value, b"Secure" in value) == (
        b"Set-Cookie",
        False,
        True,
        False,
    )
    assert set_cookie(spec, "web", "web-2", secure=True)[1].endswith(b"; Secure")
    sent = value.split(b";")[0]
    key = key_of(spec, [(b"Cookie", sent)], "192.0.2.1")
    assert key is not None
    assert tied(spec, key, "web", names) == 1
    assert tied(spec, key, "other", names) is None
    for forged in ("", "web-2", key[:-1], key + "0", token("web", "web-4"), "\udcff"):
        assert tied(spec, forged, "web", names) is None
    assert key_of(spec, [], "192.0.2.1") is None


def test_a_field_or_an_address_chooses_the_same_instance_while_others_come_and_go() -> None:
    names = [f"web-{number}" for number in range(1, 6)]
    users = [f"user{number}" for number in range(500)]
    spec = StickySpec(header="X-User")
    before = {user: names[tied(spec, user, "web", names) or 0] for user in users}
    assert len(set(before.values())) == 5
    fewer = names[:-1]
    after = {user: fewer[tied(spec, user, "web", fewer) or 0] for user in users}
    assert {user for user in users if before[user] != after[user]} == {
        user for user in users if before[user] == "web-5"
    }
    assert tied(spec, "x", "web", []) is None
    assert key_of(spec, [(b"x-user", b"\xff" + b"a" * 1000)], "") == "\udcff" + "a" * 255
    assert key_of(spec, [], "192.0.2.1") is None
    assert key_of(StickySpec(client=True), [(b"X-User", b"a")], "192.0.2.1") == "192.0.2.1"
