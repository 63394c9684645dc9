"""The line that raised an exception."""

from __future__ import annotations

import pytest

from msctl.model.stack_trace import raised_at

PYTHON = """Traceback (most recent call last):
  File "/app/main.py", line 3, in charge
    client.post()
  File "/venv/lib/python3.11/site-packages/httpx/_client.py", line 9, in post
httpx.ConnectError: refused"""
NODE = (
    "TypeError: x\n    at next (/app/node_modules/express/lib/route.js:9:3)\n    at charge (/app/pay.js:12:5)"
)


@pytest.mark.parametrize(
    ("stack", "place"),
    [
        (PYTHON, "/app/main.py:3 in charge"),
        (NODE, "/app/pay.js:12 in charge"),
        ("Error: x\n    at file:///app/a.mjs:4:7", "file:///app/a.mjs:4"),
        ("java.lang.X: y\n\tat a.b.C.m(C.java:12)", "C.java:12 in a.b.C.m"),
        ("goroutine 1 [running]:\nmain.main()\n\t/src/x.go:7 +0x1d", "/src/x.go:7"),
        ("no stack", ""),
        ("", ""),
    ],
)
def test_the_innermost_own_frame_is_named(stack: str, place: str) -> None:
    assert raised_at(stack) == place


def test_where_all_frames_are_of_libraries_the_innermost_is_named() -> None:
    assert raised_at('  File "/v/site-packages/a.py", line 1, in f\n') == "/v/site-packages/a.py:1 in f"
