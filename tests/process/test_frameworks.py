"""What `app` names is found, refused by name, or explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import Msctl
from tests.support.http import request
from tests.support.ports import reserved_port

SOURCE = """
x = 5
def asgi2(scope): ...
def anyhow(*args): ...
async def hello(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"hello"})
def wsgi(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]
async def broken(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "Traceback\\n  at\\nOSError: no db"})
"""


@pytest.fixture
def project(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Msctl:
    (tmp_path / "main.py").write_text(SOURCE)
    return Msctl(tmp_path, tmp_path_factory.mktemp("run"), {})


def configured(msctl: Msctl, app: str, gateway: int, broker: int) -> None:
    (msctl.folder / "msctl.toml").write_text(f'[services.api]\napp = "main:{app}"\n')
    msctl.env["MSCTL_GATEWAY_PORT"] = str(gateway)
    msctl.env["MSCTL_BROKER_URL"] = f"amqp://guest:guest@127.0.0.1:{broker}/"


@pytest.mark.parametrize("app", ["hello", "wsgi"])
def test_two_lines_are_a_whole_project(project: Msctl, app: str) -> None:
    with reserved_port() as gateway, reserved_port() as broker:
        configured(project, app, gateway, broker)
        project.ok("up", "-d")
        assert request(f"http://127.0.0.1:{gateway}/any/path").body == b"hello"
        project.ok("down")


@pytest.mark.parametrize(
    ("app", "fragments"),
    [
        ("x", ["main:x is an int", "ASGI"]),
        ("asgi2", ["ASGI 2"]),
        ("anyhow", ['framework = "asgi"']),
        ("broken", ["api is fatal", "OSError: no db", "\n      at\n"]),
    ],
)
def test_what_cannot_be_served_is_explained(project: Msctl, app: str, fragments: list[str]) -> None:
    with reserved_port() as gateway, reserved_port() as broker:
        configured(project, app, gateway, broker)
        done = project.run("up", "-d")
    assert done.returncode == 1
    assert [fragment for fragment in fragments if fragment not in done.stderr] == []
    assert "\\x0a" not in done.stderr


def test_relative_paths_are_those_of_the_projects_folder(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Wherever the stack is started: here in the folder above, with a relative --file."""
    folder = tmp_path / "project"
    folder.mkdir()
    source = "from pathlib import Path\n" + SOURCE.replace('b"hello"', 'Path("data.txt").read_bytes()')
    (folder / "main.py").write_text(source)
    (folder / "data.txt").write_text("of the project")
    msctl = Msctl(tmp_path, tmp_path_factory.mktemp("run"), {})
    services = "".join(
        f'[services.{name}]\napp = "main:wsgi"\nroutes = ["/{name}"]\n{more}\n'
        for name, more in (("here", ""), ("apart", 'isolation = "process"'))
    )
    (folder / "msctl.toml").write_text(services)
    with reserved_port() as gateway, reserved_port() as broker:
        msctl.env["MSCTL_GATEWAY_PORT"] = str(gateway)
        msctl.env["MSCTL_BROKER_URL"] = f"amqp://guest:guest@127.0.0.1:{broker}/"
        msctl.ok("--file", "project", "up", "-d")
        try:
            for name in ("here", "apart"):
                assert request(f"http://127.0.0.1:{gateway}/{name}").body == b"of the project"
            (folder / "msctl.toml").write_text(services.replace("/here", "/there"))
            msctl.ok("--file", "project/msctl.toml", "reload")
            assert request(f"http://127.0.0.1:{gateway}/there").body == b"of the project"
        finally:
            msctl.ok("--file", "project", "down")


def test_isolated_application_that_is_not_there_is_tried_once(project: Msctl) -> None:
    """As a hosted one is: no restart would bring it."""
    with reserved_port() as gateway, reserved_port() as broker:
        configured(project, "nothing", gateway, broker)
        with (project.folder / "msctl.toml").open("a") as file:
            file.write('isolation = "process"\n')
        done = project.run("up", "-d")
    assert done.returncode == 1
    assert done.stderr.count("main has no nothing") == 1
