"""A real Prometheus scrapes a running stack by the exported file, and has an answer for every panel."""

from __future__ import annotations

import http.client
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from msctl.export.monitoring import grafana
from tests.support import tools
from tests.support.course import Course
from tests.support.http import Answer, request
from tests.support.ports import reserved_port

RATE_INTERVAL = "20s"
"""What Grafana makes of `$__rate_interval` for a scrape every five seconds."""
PATIENCE = 90.0


@contextmanager
def prometheus(folder: Path, port: int) -> Iterator[str]:
    """Prometheus with the prometheus.yml of the folder; yields its URL. It may not answer yet."""
    with (folder / "prometheus.log").open("wb") as log:
        server = subprocess.Popen(
            [
                tools.require("prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)


@contextmanager
def load(course: Course) -> Iterator[threading.Event]:
    """Requests and messages, a few at a time, until the end; the event is set with each round."""
    ended, round_done = threading.Event(), threading.Event()

    def ask() -> None:
        while not ended.wait(0.2):
            with suppress(OSError):
                for path in ("/users", "/hello", "/nowhere"):
                    request(course.url(path))
                request(course.url("/messages"), method="POST", body=b"Hello World!")
            round_done.set()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield round_done
    finally:
        ended.set()
        thread.join()


def has_data(base: str, query: str) -> bool:
    answer = ask_prometheus(base, query)
    if answer is None:
        return False
    assert answer.status == 200, answer.body.decode()
    return any(
        value not in ("NaN", "+Inf")
        for _, value in (one["value"] for one in json.loads(answer.body)["data"]["result"])
    )


def ask_prometheus(base: str, query: str) -> Answer | None:
    """None where it does not answer yet."""
    host = base.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request("GET", f"/api/v1/query?query={quote(query)}")
        response = connection.getresponse()
        answer = Answer(response.status, dict(response.getheaders()), response.read())
        return None if answer.status == 503 else answer
    except OSError:
        return None
    finally:
        connection.close()


def test_every_panel_of_the_dashboard_has_data_under_load(course: Course, tmp_path: Path) -> None:
    tools.require("prometheus")
    queries = {
        (title, query): query.replace("$__rate_interval", RATE_INTERVAL).replace("$service", ".*")
        for title, query in grafana.queries()
    }
    with ExitStack() as stack:
        dashboard, port = (stack.enter_context(reserved_port()) for _ in range(2))
        course.msctl.env |= {"MSCTL_DASHBOARD_PORT": str(dashboard), "MSCTL_BROKER_MODE": "embedded"}
        course.msctl.ok("up", "-d")
        course.msctl.ok("start", "consumer")
        course.msctl.ok("export", "prometheus", "-o", str(tmp_path))
        round_done = stack.enter_context(load(course))
        base = stack.enter_context(prometheus(tmp_path, port))
        missing = dict(queries)
        rounds = 0
        while missing and rounds * 0.2 < PATIENCE:
            round_done.wait(PATIENCE)
            round_done.clear()
            rounds += 1
            missing = {key: query for key, query in missing.items() if not has_data(base, query)}
        assert not missing, (
            f"no data for {[title for title, _ in missing]}\n{(tmp_path / 'prometheus.log').read_text()}"
        )
