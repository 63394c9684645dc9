"""Files behind a route: what is served, what is not, and how large ones are sent."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from msctl.hosting.static_app import StaticApp
from msctl.model.endpoint import Endpoint
from msctl.model.route_policies import StaticSpec
from msctl.model.route_spec import ApiKeySpec, RouteSpec
from tests.unit.gateway.harness import running

PAGE = b"<!doctype html><title>shop</title>"


@pytest.fixture
def dist(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "dist"
    (root / "assets").mkdir(parents=True)
    (root / "sub dir").mkdir()
    (root / "index.html").write_bytes(PAGE)
    (root / "sub dir" / "index.html").write_bytes(b"sub")
    (root / "assets" / "app.js").write_bytes(b"console.log(1)")
    (root / "assets" / "app.js.gz").write_bytes(b"packed")
    (root / ".env").write_text("SECRET=1")
    (tmp_path / "secret.txt").write_text("secret")
    (root / "out.txt").symlink_to(tmp_path / "secret.txt")
    (root / "outside").symlink_to(tmp_path)
    (root / "inside.js").symlink_to("assets/app.js")
    os.mkfifo(root / "pipe")
    yield root


async def test_files_folders_and_what_is_hidden(dist: Path) -> None:
    async with running(RouteSpec("/", "", static=StaticSpec(str(dist)))) as gateway:

        async def status(target: str) -> int:
            return (await gateway.get(target)).status

        page = await gateway.get("/")
        assert (page.status, page.body) == (200, PAGE)
        assert page.get("Content-Type") == "text/html; charset=utf-8"
        assert page.get("X-Request-Id")
        assert (await gateway.get("/assets/app.js")).body == b"console.log(1)"
        assert (await gateway.get("/inside.js")).body == b"console.log(1)"
        assert (await gateway.get("/sub%20dir/")).body == b"sub"
        moved = await gateway.get("/sub%20dir?a=1")
        assert (moved.status, moved.get("Location")) == (301, "./sub%20dir/?a=1")
        for target in ("/.env", "/%2eenv", "/out.txt", "/outside/secret.txt", "/outside", "/pipe"):
            assert await status(target) == 404
        for target in (
            "/assets/",
            "/assets/app.js/",
            "/no",
            "/a%00b",
            "/assets%2Fapp.js",
            "/..%2fsecret.txt",
        ):
            assert await status(target) in (400, 404)
        refused = await gateway.ask("POST", "/", body=b"x")
        assert (refused.status, refused.get("Allow")) == (405, "GET, HEAD")


async def test_conditions_and_ranges_over_the_wire(dist: Path) -> None:
    async with running(RouteSpec("/", "", static=StaticSpec(str(dist), precompressed=True))) as gateway:
        whole = await gateway.get("/assets/app.js")
        etag = whole.get("ETag") or ""
        again = await gateway.get("/assets/app.js", ("If-None-Match", etag))
        assert (again.status, again.body, again.get("ETag")) == (304, b"", etag)
        part = await gateway.get("/assets/app.js", ("Range", "bytes=8-10"))
        assert (part.status, part.body, part.get("Content-Range")) == (206, b"log", "bytes 8-10/14")
        beyond = await gateway.get("/assets/app.js", ("Range", "bytes=99-"))
        assert (beyond.status, beyond.get("Content-Range")) == (416, "bytes */14")
        packed = await gateway.get("/assets/app.js", ("Accept-Encoding", "gzip"))
        assert (packed.body, packed.get("Content-Encoding")) == (b"packed", "gzip")
        assert packed.get("Content-Type") == "text/javascript; charset=utf-8"
        client = await gateway.client()
        head = await client.request("HEAD", "/assets/app.js")
        assert (head.status, head.get("Content-Length"), head.body) == (200, "14", b"")
        assert (await client.request("GET", "/assets/app.js")).status == 200
        (dist / "assets" / "app.js").write_bytes(b"changed")
        assert (await gateway.get("/assets/app.js", ("If-None-Match", etag))).body == b"changed"


async def test_a_single_page_app_has_its_page_everywhere_but_for_missing_files(dist: Path) -> None:
    spec = StaticSpec(str(dist), fallback="index.html", max_age=60)
    async with running(RouteSpec("/app", "web", strip_prefix=True, static=spec)) as gateway:
        for target in ("/app/", "/app/orders/7", "/app/orders/v1.2"):
            page = await gateway.get(target, ("Accept", "text/html,*/*;q=0.8"))
            assert (page.status, page.body, page.get("Cache-Control")) == (200, PAGE, "no-cache")
        script = await gateway.get("/app/assets/app.js")
        assert script.get("Cache-Control") == "public, max-age=60"
        assert (await gateway.get("/app/assets/old.js", ("Accept", "*/*"))).status == 404
        assert (await gateway.get("/app/.env", ("Accept", "text/html"))).status == 404


@pytest.mark.parametrize("by_service", [False, True])
async def test_a_prefix_without_its_slash_is_a_folder_without_its_slash(dist: Path, by_service: bool) -> None:
    """At /docs the page's link to style.css would lead to /style.css."""
    spec = StaticSpec(str(dist), fallback="index.html")
    own = None if by_service else spec
    async with running(
        RouteSpec("/docs", "web", strip_prefix=True, static=own),
        RouteSpec("/moved", "web", rewrite="/sub%20dir", static=own),
        RouteSpec("/page", "web", rewrite="/", exact=True, static=own),
    ) as gateway:
        gateway.registry.announce(Endpoint("web", "web-1", handler=StaticApp(spec).handle))
        for target, where in (
            ("/docs", "./docs/"),
            ("/docs?a=%2F", "./docs/?a=%2F"),
            ("/docs/sub%20dir", "./sub%20dir/"),
            ("/moved", "./moved/"),
        ):
            reply = await gateway.get(target)
            assert (reply.status, reply.get("Location")) == (301, where)
        for target, body in (("/docs/", PAGE), ("/moved/", b"sub"), ("/docs/deep", PAGE), ("/page", PAGE)):
            reply = await gateway.get(target)
            assert (reply.status, reply.body) == (200, body)
        if not by_service:
            explained = gateway.gateway.explain("GET", "/docs", {"Host": "localhost"})
            assert explained.status == 301


async def test_filters_hold_for_files_too(dist: Path) -> None:
    route = RouteSpec("/", "", static=StaticSpec(str(dist)), api_key=ApiKeySpec("KEYS"))
    async with running(route, environ={"KEYS": "a-key-of-sixteen-bytes"}) as gateway:
        assert (await gateway.get("/")).status == 401
        assert (await gateway.get("/", ("X-API-Key", "a-key-of-sixteen-bytes"))).body == PAGE


async def test_a_large_file_is_sent_in_pieces_and_one_that_shrinks_is_not_taken_for_complete(
    dist: Path,
) -> None:
    large = dist / "large.bin"
    content = os.urandom(1024) * (16 * 1024)
    large.write_bytes(content)
    async with running(RouteSpec("/", "", static=StaticSpec(str(dist)))) as gateway:
        assert (await gateway.get("/large.bin")).body == content
        part = await gateway.get("/large.bin", ("Range", "bytes=1000000-"))
        assert part.body == content[1000000:]
        client = await gateway.client()
        await client.send(b"GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.head()
        large.write_bytes(b"short")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.reader.readexactly(len(content))
        leaver = await gateway.client()
        large.write_bytes(content)
        await leaver.send(b"GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        await leaver.head()
        leaver.reset()
        assert (await gateway.get("/")).status == 200


async def test_a_folder_that_is_gone_is_404(dist: Path, tmp_path: Path) -> None:
    async with running(RouteSpec("/", "", static=StaticSpec(str(tmp_path / "none")))) as gateway:
        assert (await gateway.get("/")).status == 404


async def test_explanation_names_the_file_and_the_status_that_it_gets(dist: Path) -> None:
    routes = (
        RouteSpec("/", "", static=StaticSpec(str(dist))),
        RouteSpec("/spa", "", strip_prefix=True, static=StaticSpec(str(dist), fallback="index.html")),
    )
    async with running(*routes) as gateway:
        for method, target, status, said in (
            ("GET", "/assets/app.js", 200, f"{dist}/assets/app.js"),
            ("GET", "/", 200, f"{dist}/index.html"),
            ("GET", "/files/app.js", 404, f"no file {dist}/files/app.js"),
            ("GET", "/assets/", 404, f"no file {dist}/assets/index.html"),
            ("GET", "/assets", 301, "folder"),
            ("GET", "/.env", 404, "never served"),
            ("POST", "/assets/app.js", 405, "GET and HEAD"),
            ("GET", "/spa/orders/7", 200, f"{dist}/index.html"),
        ):
            found = gateway.gateway.explain(method, target)
            assert (found.status, said in found.steps[-1]) == (status, True), found
            if method == "GET":
                assert (await gateway.get(target)).status == status


async def test_every_answer_says_when_it_was_made(dist: Path) -> None:
    """RFC 9110 §6.6.1; a cache counts the age of a file from it."""
    async with running(RouteSpec("/", "", static=StaticSpec(str(dist)))) as gateway:
        etag = (await gateway.get("/assets/app.js")).get("ETag") or ""
        replies = {
            200: await gateway.get("/assets/app.js"),
            206: await gateway.get("/assets/app.js", ("Range", "bytes=0-0")),
            301: await gateway.get("/assets"),
            304: await gateway.get("/assets/app.js", ("If-None-Match", etag)),
            404: await gateway.get("/nothing.js"),
            405: await gateway.ask("POST", "/assets/app.js"),
            412: await gateway.get("/assets/app.js", ("If-Match", '"other"')),
            416: await gateway.get("/assets/app.js", ("Range", "bytes=99999999-")),
            400: await gateway.get("/%zz"),
            501: await gateway.ask("BREW", "/"),
        }
    assert {status: reply.status for status, reply in replies.items()} == {
        status: status for status in replies
    }
    assert {status: len(reply.all("Date")) for status, reply in replies.items()} == dict.fromkeys(replies, 1)
