"""Make the pictures of the documentation: `make pictures`.

Photographs pages in Chromium: of the example shop, and of a system with OpenTelemetry's SDKs that fails
behind a queue, where tests/support/install-tools.sh has installed them. Both run on the default ports.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.strangers.conftest import HERE, INSTRUMENTED
from tests.support.browser import Browser, running_browser
from tests.support.cli import Msctl

FOLDER = Path(__file__).parents[2] / "docs" / "images"
WIDTH, HEIGHT = 1360, 740
SECONDS = 32.0
"""How long the page draws a service's requests over, and a little more."""
ENV = {"MSCTL_DASHBOARD_PORT": "8090", "MSCTL_BROKER_MODE": "embedded"}
FAILING = """
[project]
name = "orders"

[services.orders]
command = "{bin}/opentelemetry-instrument {bin}/uvicorn orders:app --host $HOST --port $PORT --no-access-log"
routes = ["/orders"]
health = "/healthz"

[services.worker]
command = "node --require @opentelemetry/auto-instrumentations-node/register worker.js"
depends_on = ["orders"]
ready_log = "ready"
env = { NODE_PRESERVE_SYMLINKS = "1", NODE_PRESERVE_SYMLINKS_MAIN = "1" }
"""


@contextmanager
def running(prepare: Callable[[Msctl], Path]) -> Iterator[Msctl]:
    """A project in the folder that `prepare` makes below that of the command line that it is given."""
    with tempfile.TemporaryDirectory(prefix="msctl-") as name:
        base = Path(name)
        runtime = base / "run"
        runtime.mkdir(mode=0o700)
        env = {**ENV, "MSCTL_STATE_DIR": str(base / "state")}
        stack = Msctl(prepare(Msctl(base, runtime, env)), runtime, env)
        try:
            stack.ok("up", "-d")
            yield stack
        finally:
            stack.ok("down")


def shop(msctl: Msctl) -> Path:
    msctl.ok("init", "shop", "--example", "shop")
    return msctl.folder / "shop"


def failing(msctl: Msctl) -> Path:
    folder = msctl.folder / "orders"
    folder.mkdir()
    shutil.copy(HERE / "instrumented" / "orders.py", folder)
    shutil.copy(HERE / "why" / "worker.js", folder)
    (folder / "node_modules").symlink_to(INSTRUMENTED / "node_modules")
    (folder / "msctl.toml").write_text(FAILING.replace("{bin}", str(INSTRUMENTED / "venv" / "bin")))
    return folder


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


def page_url(stack: Msctl) -> str:
    """The link that `up` prints."""
    found = re.search(r"^page\s+(\S+)", stack.run("up", "-d").stdout, re.MULTILINE)
    assert found is not None
    return found[1]


def photograph(browser: Browser, name: str, height: int = HEIGHT) -> None:
    _size(browser, height)
    time.sleep(0.5)
    file = FOLDER / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(browser.screenshot())
    sys.stdout.write(f"{file}: {file.stat().st_size // 1024} KiB\n")


def _size(browser: Browser, height: int) -> None:
    metrics: dict[str, object] = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.devtools("Emulation.setDeviceMetricsOverride", metrics)


def photograph_shop(browser: Browser) -> None:
    with running(shop) as stack:
        _size(browser, HEIGHT)
        browser.open(page_url(stack))
        stack.ok("scale", "payments=2")
        send_traffic(SECONDS)
        photograph(browser, "page.png")


def photograph_failure(browser: Browser) -> None:
    """The way from a red number to the line that raised; the broker; and two traces side by side."""
    with running(failing) as stack:
        _size(browser, HEIGHT)
        browser.open(page_url(stack))
        page = browser.address().partition("#")[0]
        browser.open(f"{page}#/messaging?queue=orders")
        end = time.monotonic() + SECONDS
        for number in itertools.count(1):
            if time.monotonic() > end:
                break
            _request(f"/orders/{number}", b"")
            time.sleep(0.08 + 0.04 * (number // 30 % 3))
        photograph(browser, "messaging.png")
        time.sleep(6)  # SDKs send their spans every five seconds
        browser.open(f"{page}#/")
        browser.until("return msctl.topology.failed")
        time.sleep(2)
        photograph(browser, "failing.png", 560)
        browser.run(
            "[...document.querySelectorAll('#figures a')].find(a => a.href.endsWith('errors=1')).click()"
        )
        browser.until("return document.querySelector('#trace-rows button')")
        browser.run("document.querySelector('#trace-rows button').click()")
        browser.until("return document.querySelector('#trace .cause')")
        photograph(browser, "trace.png", 540)
        browser.run("document.querySelector('#trace a[href*=compare]').click()")
        browser.until("return document.querySelector('#compare-rows > li')")
        browser.run(
            "const found = await (await fetch('/api/traces?text=POST%20/orders&limit=30')).json();"
            "await msctl.compare.choose('b', '', found.find(t => !t.error).trace_id)"
        )
        photograph(browser, "compare.png", 560)


def main() -> None:
    with running_browser() as browser:
        photograph_shop(browser)
        if INSTRUMENTED.exists():
            photograph_failure(browser)
        else:
            sys.stderr.write("no pictures of a failure: run tests/support/install-tools.sh\n")


if __name__ == "__main__":
    main()
