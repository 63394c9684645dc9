"""Make the pictures of the documentation: `make pictures`.

Runs the example shop on the default ports, sends it some traffic, and photographs its page in Chromium.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.browser import Browser, running_browser
from tests.support.cli import Msctl

FOLDER = Path(__file__).parents[2] / "docs" / "images"
WIDTH, HEIGHT = 1360, 740
SECONDS = 32.0
"""How long the page draws a service's requests over, and a little more."""


@contextmanager
def running_shop() -> Iterator[Msctl]:
    with tempfile.TemporaryDirectory(prefix="msctl-") as name:
        base = Path(name)
        runtime = base / "run"
        runtime.mkdir(mode=0o700)
        env = {"MSCTL_DASHBOARD_PORT": "8090", "MSCTL_BROKER_MODE": "embedded"}
        Msctl(base, runtime, env).ok("init", "shop", "--example", "shop")
        shop = Msctl(base / "shop", runtime, env)
        try:
            shop.ok("up", "-d")
            yield shop
        finally:
            shop.ok("down")


def send_traffic(seconds: float) -> None:
    """Requests such as a user would send: orders, one of an unknown user now and then, and lists."""
    end = time.monotonic() + seconds
    for number in itertools.count():
        if time.monotonic() > end:
            return
        order = {"user": 9 if number % 12 == 11 else 1 + number % 2, "amount": 12.5 + number % 40}
        _request("/orders", json.dumps(order).encode())
        _request("/users")
        if number % 2:
            _request("/payments")
        time.sleep(0.04 + 0.03 * (number // 40 % 3))


def _request(path: str, body: bytes | None = None) -> None:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:8080{path}", body, timeout=10).close()
    except urllib.error.HTTPError as error:
        error.close()


def page_url(shop: Msctl) -> str:
    """The link that `up` prints."""
    found = re.search(r"^page\s+(\S+)", shop.run("up", "-d").stdout, re.MULTILINE)
    assert found is not None
    return found[1]


def photograph(browser: Browser, name: str) -> Path:
    file = FOLDER / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(browser.screenshot())
    return file


def main() -> None:
    with running_shop() as shop, running_browser() as browser:
        browser.devtools(
            "Emulation.setDeviceMetricsOverride",
            {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False},
        )
        browser.open(page_url(shop))
        shop.ok("scale", "payments=2")
        send_traffic(SECONDS)
        file = photograph(browser, "page.png")
        sys.stdout.write(f"{file}: {file.stat().st_size // 1024} KiB\n")


if __name__ == "__main__":
    main()
