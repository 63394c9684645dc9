"""The lifespan of an ASGI application: as uvicorn's `auto`, and never longer than the service's life."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from msctl.hosting.asgi.lifespan import LifespanFailedError
from tests.support.hosted import hosted


class App:
    """An application with a lifespan of given messages; it answers requests with what it has kept."""

    def __init__(self, *answers: str, error: BaseException | None = None, message: str = "") -> None:
        self._answers = answers
        self._error = error
        self._message = message
        self.seen: list[str] = []
        self.ended = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": repr(scope["state"].get("db")).encode()})
            scope["state"]["db"] = "changed by a request"
            return
        try:
            scope["state"]["db"] = "open"
            for answer in self._answers:
                self.seen.append((await receive())["type"])
                await send({"type": f"lifespan.{answer}", "message": self._message})
            if self._error is not None:
                raise self._error
        finally:
            self.ended.set()


async def test_state_of_the_lifespan_is_copied_to_each_request() -> None:
    app = App("startup.complete", "shutdown.complete")
    async with hosted(app) as served:
        assert (await served.request()).body == b"'open'"
        assert (await served.request()).body == b"'open'"
        assert app.seen == ["lifespan.startup"]
    assert app.seen == ["lifespan.startup", "lifespan.shutdown"]
    assert not served.errors()


@pytest.mark.parametrize("error", [None, KeyError("type"), AssertionError(), asyncio.CancelledError()])
async def test_application_without_lifespan_is_served(error: BaseException | None) -> None:
    async with hosted(App(error=error)) as served:
        assert (await served.request()).status == 200
    assert not served.errors()
    assert not error or any(type(error).__name__ in line.text for line in served.logs)


async def test_failed_startup_says_why() -> None:
    trace = "Traceback (most recent call last):\n  File x\nOSError: no database\n"
    app = App("startup.failed", error=OSError("no database"), message=trace)
    with pytest.raises(LifespanFailedError) as raised:
        async with hosted(app):
            raise AssertionError("it has started")
    assert "OSError: no database" in raised.value.message


async def test_end_of_a_long_reason_is_kept() -> None:
    trace = "\n".join([*("  File x" * 10 for _ in range(1000)), "OSError: no database"])
    app = App("startup.complete", "shutdown.failed", message=trace)
    async with hosted(app) as served:
        pass
    assert served.errors().endswith("OSError: no database")


async def test_failed_shutdown_is_logged() -> None:
    async with hosted(App("startup.complete", "shutdown.failed", message="still busy")) as served:
        pass
    assert "still busy" in served.errors()


@pytest.mark.parametrize("error", [RuntimeError("lost"), asyncio.CancelledError("lost")])
async def test_lifespan_that_dies_is_logged_and_requests_go_on(error: BaseException) -> None:
    app = App("startup.complete", error=error)
    async with hosted(app) as served:
        await app.ended.wait()
        assert (await served.request()).status == 200
    assert f"{type(error).__name__}: lost" in served.errors()


@pytest.mark.parametrize("answers", [("shutdown.complete",), ("startup.complete", "startup.complete")])
async def test_answer_out_of_turn_is_an_error_of_the_application(answers: tuple[str, ...]) -> None:
    app = App(*answers)
    async with hosted(app) as served:
        pass
    assert any("invalid state transition" in line.text for line in served.logs)


async def test_startup_that_hangs_ends_with_its_cancellation() -> None:
    app = App()

    async def hang(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            app.ended.set()

    async def start() -> None:
        async with hosted(hang):
            raise AssertionError("it has started")

    starting = asyncio.create_task(start())
    for _ in range(10):
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait([starting])
    assert app.ended.is_set()


async def test_shutdown_that_hangs_ends_with_its_cancellation() -> None:
    ended = asyncio.Event()

    async def hang(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send({"type": "lifespan.startup.complete"})
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with hosted(hang) as served:
        stopping = asyncio.create_task(served.app.cleanup())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.wait([stopping])
        assert ended.is_set()
