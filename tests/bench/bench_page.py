"""The page over a stack of 200 services and 100,000 log lines: its first view, its cost, and a tab's memory.

`MINUTES` is how long the tab stays open; ten take ten minutes.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.bench.result import Result
from tests.support.browser import Browser, running_browser
from tests.support.cli import Msctl
from tests.support.ports import reserved_port

SERVICES = 200
LINES = 100_000
SECONDS = 20.0
MINUTES = float(os.environ.get("MINUTES", "1"))
TEAMS = ("cart", "catalog", "mail", "pay", "search", "ship", "stock", "user")
CHATTY = """
import time
while True:
    time.sleep(0.05)
    print("one more line", flush=True)
"""
FIRST_VIEW = f"""
const timer = setInterval(() => {{
  if (document.querySelectorAll('#services tr').length < {SERVICES}) return;
  clearInterval(timer);
  window.firstView = performance.now();
}}, 5);
"""


@dataclass(frozen=True)
class Large:
    """The stack, and its process."""

    msctl: Msctl
    process: psutil.Process
    page: str

    def cpu_percent(self, seconds: float = SECONDS) -> float:
        """The share of a core that the stack takes, without its children."""
        before = sum(self.process.cpu_times()[:2])
        time.sleep(seconds)
        return (sum(self.process.cpu_times()[:2]) - before) / seconds * 100


def results() -> Iterator[Result]:
    with large_stack() as stack, running_browser() as browser:
        browser.emulate(width=1440, scheme="light")
        browser.devtools("Page.addScriptToEvaluateOnNewDocument", {"source": FIRST_VIEW})
        browser.open(stack.msctl.ok("open", "--print").strip())
        browser.until("return window.firstView")
        views = []
        for _ in range(5):
            browser.open("about:blank")
            browser.open(stack.page)
            views.append(float(browser.until("return window.firstView")))
        yield Result(f"first view of {SERVICES} services / 1 s", min(views), 1000, "ms", at_most=1)
        browser.open("about:blank")
        time.sleep(2)
        closed = stack.cpu_percent()
        for view in ("", "topology", "logs"):
            browser.open("about:blank")
            browser.open(f"{stack.page}#/{view}")
            fill(browser)
            time.sleep(2)
            cost = max(0.0, stack.cpu_percent() - closed)
            yield Result(f"page open on {view or 'overview'} / 3 % of a core", cost, 3, "%", at_most=1)
        browser.open("about:blank")
        browser.open(f"{stack.page}#/")
        fill(browser)
        time.sleep(10)
        first = heap(browser)
        time.sleep(60 * MINUTES)
        name = f"a tab's heap after {MINUTES:g} minutes / in the beginning"
        yield Result(name, heap(browser), first, "MB", at_most=1.25)


def fill(browser: Browser) -> None:
    """Give the page as many lines as it keeps, older than those that it has."""
    browser.until("return window.msctl && msctl.page.alive && msctl.logs.all.length")
    browser.run(
        "const { logs } = msctl;"
        "const line = (i) => [0, 1e9 + i, 'chatty', 'info', `line number ${i}`, null, '', null];"
        "logs.all.unshift(...Array.from({ length: args[0] - logs.all.length }, (_, i) => line(i)));"
        "logs.refilter(false)",
        LINES,
    )


def heap(browser: Browser) -> float:
    """Megabytes that the page's scripts use after a collection."""
    browser.devtools("HeapProfiler.collectGarbage", {})
    return float(browser.run("return performance.memory.usedJSHeapSize")) / 1e6


@contextmanager
def large_stack() -> Iterator[Large]:
    with ExitStack() as held:
        base = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="msctl-")))
        (base / "run").mkdir(mode=0o700)
        (base / "project").mkdir()
        ports = {name: held.enter_context(reserved_port()) for name in ("gateway", "broker", "dashboard")}
        (base / "project" / "msctl.toml").write_text(configuration(ports))
        env = {"MSCTL_DASHBOARD_PORT": str(ports["dashboard"]), "MSCTL_STATE_DIR": str(base / "state")}
        msctl = Msctl(base / "project", base / "run", env)
        try:
            msctl.ok("up", "-d")
            process = psutil.Process(msctl.status()["pid"])
            yield Large(msctl, process, f"http://127.0.0.1:{ports['dashboard']}/")
        finally:
            msctl.run("down", "--timeout", "10s")


def configuration(ports: dict[str, int]) -> str:
    """Services in teams; each needs the one before it in its team, and the first of the next team."""
    parts = ['[project]\nname = "large"\n']
    names = [f"{TEAMS[number % len(TEAMS)]}-{number // len(TEAMS)}" for number in range(SERVICES - 2)]
    for number, name in enumerate(names):
        needs = [names[number - len(TEAMS)]] if number >= len(TEAMS) else []
        needs += [names[number - 1]] if 0 < number < len(TEAMS) else []
        parts.append(
            f'[services.{name}]\napp = "msctl.services.users:create_app"\n'
            f'routes = ["/{name}"]\ndepends_on = {json.dumps(needs)}\n'
        )
    parts.append(f"[services.chatty]\ncommand = {json.dumps([sys.executable, '-c', CHATTY])}\n")
    parts.append(f"[gateway]\nport = {ports['gateway']}\n")
    parts.append(
        f'[broker]\nmode = "embedded"\nmanagement = false\n'
        f'url = "amqp://guest:guest@127.0.0.1:{ports["broker"]}/"\n'
    )
    return "\n".join(parts)
