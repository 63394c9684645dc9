"""Queues, exchanges and bindings over HTTP: what is created, refused, listed and deleted."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.differential.management.conftest import Api

NOT_FOUND = {"error": "Object Not Found", "reason": "Not Found"}


async def test_queue_is_declared_once_and_then_the_same(api: Api) -> None:
    body = {"durable": True, "auto_delete": False, "arguments": {"x-max-length": 5}}
    assert await api.put("queues/{v}/q", body) == 201
    assert await api.put("queues/{v}/q", body) == 204
    found = await api.get("queues/{v}/q")
    expected = {"name": "q", "vhost": api.vhost, "durable": True, "auto_delete": False, "exclusive": False}
    assert {key: found[key] for key in expected} == expected
    assert (found["arguments"], found["type"]) == ({"x-max-length": 5}, "classic")


async def test_an_empty_body_declares_a_transient_queue(api: Api) -> None:
    answer = await api.request("PUT", "queues/{v}/q")
    assert answer.status == 201
    assert (await api.get("queues/{v}/q"))["durable"] is False


@pytest.mark.parametrize(
    ("path", "raw", "status", "error", "reason"),
    [
        ("queues/{v}/q", b"xx", 400, "bad_request", "not_json"),
        ("queues/nowhere/q", b"{}", 404, "not_found", "vhost_not_found"),
        ("queues/{v}/amq.q", b"{}", 401, "not_authorised", "Access refused."),
        ("exchanges/{v}/x", b'{"type": "odd"}', 400, "bad_request", "unknown exchange type 'odd'"),
        ("exchanges/{v}/amq.x", b"{}", 401, "not_authorised", "Access refused."),
        ("queues/{v}/there", b'{"durable": true}', 400, "bad_request", "inequivalent arg 'durable'"),
        ("exchanges/{v}/there", b'{"type": "topic"}', 400, "bad_request", "inequivalent arg 'type'"),
    ],
)
async def test_declaration_that_cannot_be_is_refused(
    api: Api, path: str, raw: bytes, status: int, error: str, reason: str
) -> None:
    await api.put("queues/{v}/there")
    await api.put("exchanges/{v}/there", {"type": "direct"})
    answer = await api.request("PUT", path, raw=raw)
    assert (answer.status, answer.document["error"]) == (status, error)
    assert answer.document["reason"].startswith(reason)


async def test_delete_refuses_what_is_in_use_and_misses_what_is_gone(api: Api) -> None:
    await api.put("queues/{v}/q")
    await api.put("exchanges/{v}/x")
    await api.post("bindings/{v}/e/x/q/q", {"routing_key": "k"})
    await api.publish("q", "hello")
    refused = await api.request("DELETE", "queues/{v}/q?if-empty=true")
    assert (refused.status, refused.document["error"]) == (400, "bad_request")
    assert refused.document["reason"].endswith("not empty")
    assert await api.delete("exchanges/{v}/x?if-unused=true") == 400
    for path in ("queues/{v}/q", "exchanges/{v}/x"):
        assert await api.delete(path) == 204
        answer = await api.request("DELETE", path)
        assert (answer.status, answer.document) == (404, NOT_FOUND)
    assert await api.delete("exchanges/{v}/amq.direct") == 401


async def test_names_of_any_kind_are_reached(api: Api) -> None:
    for name in ("a/b", "a b", "ä%25", "#.*", "?q=1"):
        path = f"queues/{{v}}/{quote(name, safe='')}"
        assert await api.put(path) == 201
        assert (await api.get(path))["name"] == name
        assert await api.delete(path) == 204


async def test_slash_at_the_end_of_a_path_does_not_count(api: Api) -> None:
    await api.put("queues/{v}/q")
    assert [each["name"] for each in await api.get("queues/{v}/")] == ["q"]
    assert {each["vhost"] for each in await api.get("queues/")} >= {api.vhost}


async def test_binding_is_made_shown_and_removed_by_its_key(api: Api) -> None:
    await api.put("queues/{v}/q")
    await api.put("exchanges/{v}/x", {"type": "topic"})
    pair = "bindings/{v}/e/x/q/q"
    plain = await api.request("POST", pair, {"routing_key": "a.#"})
    assert (plain.status, plain.headers["Location"]) == (201, "q/a.%2523")
    await api.post(pair, {"routing_key": "a.#", "arguments": {"x": 1}})
    await api.post(pair, {})
    found = await api.get(pair)
    assert [(each["routing_key"], each["arguments"]) for each in found] == [
        ("", {}),
        ("a.#", {}),
        ("a.#", {"x": 1}),
    ]
    keys = [each["properties_key"] for each in found]
    assert keys[:2] == ["~", "a.%23"]
    assert keys[2].startswith("a.%23~")
    for key in keys:
        assert (await api.get(f"{pair}/{quote(key, safe='')}"))["properties_key"] == key
        assert await api.delete(f"{pair}/{quote(key, safe='')}") == 204
    assert await api.delete(f"{pair}/~") == 404
    assert await api.get(pair) == []


async def test_binding_to_what_is_not_there_is_refused(api: Api) -> None:
    await api.put("exchanges/{v}/x")
    answer = await api.request("POST", "bindings/{v}/e/x/q/none", {"routing_key": "k"})
    assert (answer.status, answer.document["error"]) == (404, "not_found")
    assert answer.document["reason"] == f"no queue 'none' in vhost '{api.vhost}'"


async def test_bindings_are_listed_by_queue_and_by_exchange(api: Api) -> None:
    await api.put("queues/{v}/q")
    await api.put("exchanges/{v}/x")
    await api.put("exchanges/{v}/y")
    await api.post("bindings/{v}/e/x/q/q", {"routing_key": "k"})
    await api.post("bindings/{v}/e/x/e/y", {"routing_key": "e"})

    async def listed(path: str) -> set[tuple[str, str, str]]:
        return {(each["source"], each["destination"], each["routing_key"]) for each in await api.get(path)}

    implicit, bound, between = ("", "q", "q"), ("x", "q", "k"), ("x", "y", "e")
    assert await listed("bindings/{v}") == {implicit, bound, between}
    assert await listed("queues/{v}/q/bindings") == {implicit, bound}
    assert await listed("exchanges/{v}/x/bindings/source") == {bound, between}
    assert await listed("exchanges/{v}/y/bindings/destination") == {between}
    assert await listed("bindings/{v}/e/x/e/y") == {between}


async def test_exchange_shows_what_it_is(api: Api) -> None:
    body = {
        "type": "headers",
        "durable": False,
        "auto_delete": True,
        "internal": True,
        "arguments": {"alternate-exchange": "amq.fanout"},
    }
    assert await api.put("exchanges/{v}/x", body) == 201
    found = await api.get("exchanges/{v}/x")
    assert {key: found[key] for key in body} == body
    names = {each["name"] for each in await api.get("exchanges/{v}")}
    assert {"", "amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.topic", "x"} <= names


# --- lists ---


async def names_of(api: Api, query: str) -> Any:
    return [each["name"] for each in await api.get(f"queues/{{v}}?{query}")]


async def test_list_is_paged_filtered_and_sorted(api: Api) -> None:
    for name in ("alpha", "beta", "gamma", "alphabet"):
        await api.put(f"queues/{{v}}/{name}")
    page = await api.get("queues/{v}?page=1&page_size=3&columns=name")
    assert page == {
        "filtered_count": 4,
        "item_count": 3,
        "items": [{"name": "alpha"}, {"name": "alphabet"}, {"name": "beta"}],
        "page": 1,
        "page_count": 2,
        "page_size": 3,
        "total_count": 4,
    }
    found = await api.get("queues/{v}?page=1&page_size=9&name=alpha&use_regex=false&columns=name")
    assert ([each["name"] for each in found["items"]], found["total_count"]) == (["alpha", "alphabet"], 4)
    found = await api.get("queues/{v}?page=1&page_size=9&name=a%24&use_regex=true&columns=name")
    assert [each["name"] for each in found["items"]] == ["alpha", "beta", "gamma"]
    assert await names_of(api, "sort=name&sort_reverse=true&columns=name") == [
        "gamma",
        "beta",
        "alphabet",
        "alpha",
    ]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("page=9&page_size=2", "page_out_of_range"),
        ("page=a&page_size=2", "bad_request"),
        ("page=0&page_size=2", "invalid_pagination_parameters"),
        ("page=1&page_size=501", "invalid_pagination_parameters"),
    ],
)
async def test_page_that_cannot_be_is_refused(api: Api, query: str, error: str) -> None:
    await api.put("queues/{v}/q")
    answer = await api.request("GET", f"queues/{{v}}?{query}")
    assert (answer.status, answer.document["error"]) == (400, error)
