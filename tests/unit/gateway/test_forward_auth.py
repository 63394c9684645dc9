"""What a forward authenticator is asked, and what its answer may change."""

from __future__ import annotations

from msctl.gateway.policies.forward_auth import admitted_fields, question_fields, relayed_fields
from msctl.model.route_policies import ForwardAuthSpec

SPEC = ForwardAuthSpec(path="/auth", response_headers=("X-User", "X-Groups"))


def test_the_question_says_which_request_it_is_and_nobody_else_does() -> None:
    fields = [(b"X-Forwarded-Uri", b"/public"), (b"x-forwarded-method", b"GET"), (b"Cookie", b"a=b")]
    assert question_fields(SPEC, fields, "POST", "/admin?x=1") == [
        (b"Cookie", b"a=b"),
        (b"X-Forwarded-Method", b"POST"),
        (b"X-Forwarded-Uri", b"/admin?x=1"),
    ]


def test_the_question_has_no_fields_about_a_body_or_a_condition() -> None:
    fields = [
        (b"Content-Type", b"text/plain"),
        (b"If-None-Match", b"*"),
        (b"Range", b"bytes=0-1"),
        (b"A", b"1"),
    ]
    assert question_fields(SPEC, fields, "GET", "/")[0] == (b"A", b"1")


def test_only_the_fields_asked_for_are_sent_and_those_about_the_client() -> None:
    spec = ForwardAuthSpec(path="/auth", request_headers=("Authorization",))
    fields = [(b"Cookie", b"a"), (b"authorization", b"b"), (b"X-Forwarded-For", b"c"), (b"Via", b"d")]
    assert question_fields(spec, fields, "GET", "/")[:3] == fields[1:]


def test_the_answer_sets_its_fields_alone_in_every_spelling() -> None:
    fields = [(b"X-User", b"admin"), (b"x_user", b"admin"), (b"X-Groups", b"all"), (b"A", b"1")]
    answer = [(b"x-user", b"ann"), (b"X-Other", b"2"), (b"x-user", b"second")]
    assert admitted_fields(SPEC, fields, answer) == [
        (b"A", b"1"),
        (b"x-user", b"ann"),
        (b"x-user", b"second"),
    ]


def test_a_refusal_is_relayed_without_its_framing() -> None:
    answer = [(b"Content-Length", b"9"), (b"Set-Cookie", b"a"), (b"X-Request-Id", b"x")]
    assert relayed_fields(answer) == [(b"Set-Cookie", b"a")]
