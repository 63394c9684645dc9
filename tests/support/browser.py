"""A real Chromium without a window, driven over WebDriver with nothing but the standard library."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import reserved_port

PATIENCE = 30.0
"""Seconds after which what should be on a page fails its test; no test waits for it to pass."""
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP rebound.example 127.0.0.1",
)


def require_browser() -> str:
    """chromedriver's path; skips the test where there is none, on CI (which installs it) fails it."""
    found = shutil.which("chromedriver")
    if found is not None and (shutil.which("chromium") or shutil.which("google-chrome")):
        return found
    return _missing("Chromium and chromedriver (Debian: chromium, chromium-driver)")


def require_axe() -> str:
    """axe-core's source, as install-tools.sh fetches it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "msctl-tests"
    for folder in sorted(cache.glob("axe-core-*"), reverse=True):
        return (folder / "axe.min.js").read_text(encoding="utf-8")
    return _missing("axe-core (npm)")


def _missing(what: str) -> str:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have {what}", pytrace=False)
    pytest.skip(f"needs {what}: sh tests/support/install-tools.sh")


class Browser:
    """One window. Its waits look again until what they wait for is there, or fail the test."""

    def __init__(self, driver: str, session: str) -> None:
        self._base = f"{driver}/session/{session}"

    def open(self, url: str) -> None:
        call("POST", f"{self._base}/url", {"url": url})

    def run(self, script: str, *args: object) -> Any:
        """What `script` returns; a promise is waited for."""
        body = (
            "const done = arguments[arguments.length - 1], given = Array.from(arguments).slice(0, -1);"
            f"(async (...args) => {{ {script}\n }})(...given)"
            ".then((value) => done([true, value]), (error) => done([false, String(error)]));"
        )
        fine, value = call("POST", f"{self._base}/execute/async", {"script": body, "args": list(args)})
        assert fine, value
        return value

    def window(self) -> str:
        """The handle of the window that commands go to."""
        return str(call("GET", f"{self._base}/window"))

    def new_window(self) -> str:
        """Open a window of its own, and let commands go to it."""
        handle = str(call("POST", f"{self._base}/window/new", {"type": "window"})["handle"])
        self.switch(handle)
        return handle

    def switch(self, handle: str) -> None:
        call("POST", f"{self._base}/window", {"handle": handle})

    def close_window(self) -> None:
        call("DELETE", f"{self._base}/window")

    def address(self) -> str:
        """Where it is; unlike a script, the question survives a page that is being left."""
        return str(call("GET", f"{self._base}/url"))

    def until(self, script: str, *args: object) -> Any:
        """What `script` returns as soon as that is true in JavaScript's sense."""
        deadline = time.monotonic() + PATIENCE
        while True:
            value = self.run(script, *args)
            if value:
                return value
            if time.monotonic() > deadline:
                text = self.run("return document.body.innerText")
                raise AssertionError(f"never became true: {script} {args}\nThe page shows:\n{text}")
            time.sleep(0.05)

    def click(self, css: str) -> None:
        """Click where it is, once it stays there: a page that moves it would take the click elsewhere."""
        element = self._element(css)
        self.run(
            "const at = () => { const r = document.querySelector(args[0])?.getBoundingClientRect();"
            "                   return r && `${r.x} ${r.y}`; };"
            "const frame = () => new Promise((done) => requestAnimationFrame(done));"
            "for (let was, is = at(), still = 0; still < 3; ) {"
            "  await frame(); was = is; is = at(); still = is === was ? still + 1 : 0; }",
            css,
        )
        call("POST", f"{element}/click", {})

    def type(self, css: str, text: str) -> None:
        """Into a field that is emptied first."""
        self._ask_once_shown(css, "clear", {})
        self._ask_once_shown(css, "value", {"text": text})

    def press(self, css: str, keys: str) -> None:
        self._ask_once_shown(css, "value", {"text": keys})

    def text(self, css: str) -> str:
        return str(call("GET", f"{self._element(css)}/text"))

    def emulate(self, *, width: int, scheme: str) -> None:
        """A window of that width, and a system with that colour scheme."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        self.devtools(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )

    def devtools(self, command: str, params: dict[str, object]) -> Any:
        return call("POST", f"{self._base}/goog/cdp/execute", {"cmd": command, "params": params})

    def screenshot(self) -> bytes:
        return base64.b64decode(call("GET", f"{self._base}/screenshot"))

    def problems(self) -> list[str]:
        """What the browser has complained of since this was last asked."""
        entries = call("POST", f"{self._base}/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def _ask_once_shown(self, css: str, command: str, body: dict[str, object]) -> None:
        """A command that an element refuses while it, or what is around it, is not shown."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                call("POST", f"{self._element(css)}/{command}", body)
                return
            except AssertionError as error:
                if "not interactable" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    def _element(self, css: str) -> str:
        deadline = time.monotonic() + PATIENCE
        while True:
            found = call("POST", f"{self._base}/elements", {"using": "css selector", "value": css})
            if found:
                return f"{self._base}/element/{found[0][_ELEMENT]}"
            assert time.monotonic() < deadline, f"nothing on the page is {css}"
            time.sleep(0.05)


@contextlib.contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser with an empty profile, gone with the block."""
    binary = require_browser()
    with reserved_port() as port, tempfile.TemporaryDirectory(prefix="msctl-browser-") as profile:
        driver = f"http://127.0.0.1:{port}"
        child = subprocess.Popen(
            [binary, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _wait_for(driver, child)
            options = {"args": [*_FLAGS, f"--user-data-dir={profile}"]}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            session = call("POST", f"{driver}/session", {"capabilities": {"alwaysMatch": wanted}})
            base = f"{driver}/session/{session['sessionId']}"
            call("POST", f"{base}/timeouts", {"script": 30_000})
            try:
                yield Browser(driver, session["sessionId"])
            finally:
                call("DELETE", base)
        finally:
            child.terminate()
            child.wait(10)


def _wait_for(driver: str, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if call("GET", f"{driver}/status")["ready"]:
                return
        except OSError:
            assert child.poll() is None, "chromedriver has ended"
            assert time.monotonic() < deadline, "chromedriver does not answer"
            time.sleep(0.05)


def call(method: str, url: str, body: object = None) -> Any:
    """One WebDriver command (W3C WebDriver §6); fails with the driver's own words."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=90) as response:
            return json.load(response)["value"]
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(json.load(error)["value"]["message"]) from None
