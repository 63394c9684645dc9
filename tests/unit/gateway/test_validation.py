"""Which request heads are refused, with which status, and what an accepted one says."""

from __future__ import annotations

import pytest

from msctl.gateway.message.headers import Field
from msctl.gateway.message.problems import ProblemError
from msctl.gateway.request.validation import Validated, validate

HOST = (b"Host", b"a.test")
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def head(
    *fields: Field,
    method: str = "GET",
    target: str = "/x",
    version: tuple[int, int] = (1, 1),
    host: Field | None = HOST,
) -> Validated:
    return validate(method, target, version, [host, *fields] if host else list(fields), "msctl-1")


def refused(
    *fields: Field,
    method: str = "GET",
    target: str = "/x",
    version: tuple[int, int] = (1, 1),
    host: Field | None = HOST,
) -> int:
    with pytest.raises(ProblemError) as caught:
        head(*fields, method=method, target=target, version=version, host=host)
    return caught.value.problem.status


def test_a_plain_request() -> None:
    plain = head()
    assert (plain.target.path, plain.host, plain.facts.length, plain.facts.chunked) == (
        "/x",
        "a.test",
        None,
        False,
    )
    assert (plain.facts.expects_continue, plain.facts.upgrade) == (False, None)
    assert (plain.facts.request_id, plain.facts.trace, plain.facts.max_forwards) == (None, None, None)


def test_other_versions_and_methods_of_a_forward_proxy_are_refused() -> None:
    assert [refused(version=version) for version in ((0, 9), (2, 0), (3, 0))] == [505] * 3
    assert refused(target="nowhere") == 400
    with pytest.raises(ProblemError) as caught:
        head(method="CONNECT", target="a.test:80")
    assert (caught.value.problem.status, caught.value.problem.fields) == (405, ((b"Allow", b""),))


def test_a_refusal_closes_the_connection() -> None:
    with pytest.raises(ProblemError) as caught:
        head((b"Host", b"b.test"))
    assert caught.value.problem.close
    assert caught.value.problem.error == "http_request_error"


def test_the_host_is_one_authority() -> None:
    assert refused((b"hOST", b"a.test")) == 400
    assert refused(host=None) == 400
    assert refused(host=(b"Host", b"u@a.test")) == 400
    assert refused(host=(b"Host", b"")) == 400
    assert head(host=None, version=(1, 0)).host == ""
    assert head(host=(b"HOST", b"A:1")).host == "A:1"


def test_the_targets_authority_overrides_the_host() -> None:
    assert head(target="http://b.test:1/x").host == "b.test:1"
    assert head(target="http://b.test/x", host=None, version=(1, 0)).host == "b.test"
    assert refused(target="http://b.test/x", host=None) == 400
    # The Host field is checked all the same.
    assert refused(target="http://b.test/x", host=(b"Host", b"/")) == 400


def test_the_asterisk_is_for_options_alone() -> None:
    assert head(method="OPTIONS", target="*").target.asterisk
    assert [refused(method=method, target="*") for method in ("GET", "TRACE", "POST")] == [400] * 3
    whole = head(method="OPTIONS", target="http://b.test").target
    assert (whole.asterisk, whole.path) == (True, "*")
    for method, target in (("GET", "http://b.test"), ("OPTIONS", "http://b.test/"), ("OPTIONS", "/x")):
        assert not head(method=method, target=target).target.asterisk


@pytest.mark.parametrize("value", [b"", b"-1", b"+1", b"1,1", b"1 ", b"0x1", b"1_0", b"1" * 19])
def test_a_content_length_is_one_number(value: bytes) -> None:
    assert refused((b"Content-Length", value)) == 400


def test_content_length() -> None:
    assert head((b"CONTENT-length", b"007")).facts.length == 7
    assert head((b"Content-Length", b"0")).facts.length == 0
    assert head((b"Content-Length", b"9" * 18)).facts.length == int("9" * 18)
    assert refused((b"Content-Length", b"1"), (b"content-length", b"1")) == 400
    assert refused((b"Content-Length", b"1"), (b"content-length", b"2")) == 400


def test_transfer_encoding() -> None:
    chunked = head((b"Transfer-Encoding", b"Chunked"))
    assert (chunked.facts.length, chunked.facts.chunked) == (None, True)
    assert refused((b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"1")) == 400
    assert refused((b"Transfer-Encoding", b"chunked"), version=(1, 0)) == 400
    assert refused((b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")) == 400
    assert refused((b"Transfer-Encoding", b"")) == 400
    assert [refused((b"Transfer-Encoding", value)) for value in (b"gzip", b"gzip, chunked", b"xchunked")] == [
        501
    ] * 3


def test_more_than_one_content_type_is_refused() -> None:
    assert refused((b"Content-Type", b"text/plain"), (b"content-type", b"application/json")) == 400
    assert head((b"Content-Type", b"text/plain")).host == "a.test"


def test_more_than_one_authorization_is_refused() -> None:
    assert refused((b"Authorization", b"a"), (b"authorization", b"a")) == 400
    assert head((b"Authorization", b"a")).host == "a.test"


def test_a_loop_is_refused() -> None:
    assert refused((b"Via", b"1.1 msctl-1")) == 508
    assert head((b"Via", b"1.1 msctl-2")).host == "a.test"


def test_an_expectation_counts_where_a_body_follows() -> None:
    expect, length = (b"Expect", b"100-Continue"), (b"Content-Length", b"1")
    assert head(expect, length).facts.expects_continue
    assert head(expect, (b"Transfer-Encoding", b"chunked")).facts.expects_continue
    assert not head(expect).facts.expects_continue
    assert not head(expect, (b"Content-Length", b"0")).facts.expects_continue
    assert not head(expect, length, version=(1, 0)).facts.expects_continue
    assert refused((b"Expect", b"200-ok"), length) == 417
    assert refused(expect, (b"Expect", b"x")) == 417


def test_an_upgrade_to_websocket_alone_is_asked_of_the_service() -> None:
    connection = (b"Connection", b"keep-alive, Upgrade")
    ours = head(connection, (b"Upgrade", b"h2c, WebSocket"))
    assert ours.facts.upgrade == "websocket"
    assert head(connection, (b"Upgrade", b"h2c"), (b"Upgrade", b"\twebsocket ")).facts.upgrade == "websocket"
    for other in (
        head(connection, (b"Upgrade", b"h2c")),
        head(connection, (b"Upgrade", b"xwebsocket")),
        head(connection, (b"Upgrade", b"XwebsocketX")),
        head((b"Upgrade", b"websocket")),
        head(connection, (b"Upgrade", b"websocket"), method="POST"),
        head(connection, (b"Upgrade", b"websocket"), version=(1, 0)),
    ):
        assert other.facts.upgrade is None


def test_a_request_id_is_kept_where_there_is_one_that_is_safe() -> None:
    assert head((b"X-Request-ID", b"abc-1")).facts.request_id == "abc-1"
    assert head((b"X-Request-ID", b"a b")).facts.request_id is None
    assert head((b"X-Request-ID", b"a"), (b"x-request-id", b"a")).facts.request_id is None


def test_a_trace_is_continued_where_there_is_one() -> None:
    assert head((b"TraceParent", TRACE)).facts.trace == ("4bf92f3577b34da6a3ce929d0e0e4736", "01")
    assert head((b"traceparent", TRACE), (b"traceparent", TRACE)).facts.trace is None
    assert head((b"traceparent", b"x")).facts.trace is None


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
@pytest.mark.parametrize(
    ("value", "hops"),
    [(b"0", 0), (b"000", 0), (b"7", 7), (b"007", 7), (b"255", 255), (b"256", 256), (b"9" * 40, 256)],
)
def test_max_forwards_is_bounded(method: str, value: bytes, hops: int) -> None:
    assert head((b"MAX-Forwards", value), method=method).facts.max_forwards == hops


def test_max_forwards_is_one_number_and_for_two_methods() -> None:
    for value in (b"", b"-1", b"x", b"1.0"):
        assert refused((b"Max-Forwards", value), method="TRACE") == 400
    assert refused((b"Max-Forwards", b"1"), (b"Max-Forwards", b"1"), method="OPTIONS") == 400
    assert head(method="OPTIONS").facts.max_forwards is None
    assert head((b"Max-Forwards", b"x")).facts.max_forwards is None
